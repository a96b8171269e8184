"""One comparison: everyone who can do a task takes turns at it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiles import parity
from profiles.cases import Task
from profiles.team import Member
from profiles.timing import Run, Spread, alternate, rates, ratios


@dataclass
class Outcome:
    """What a contender did at a task.

    Attributes:
        refused: why it was not timed, or "".
        runs: one for each round.
        warm_up: seconds to set up and compile, not part of the runs.
        deviation: from lenstronomy's noise-free images over the peak; None where it was not compared.
    """

    contender: str
    refused: str = ""
    runs: list[Run] = field(default_factory=list)
    warm_up: float = 0.0
    deviation: float | None = None
    dtype: str = ""
    notes: str = ""
    processes: int = 1
    device: str = "cpu"

    @property
    def rate(self) -> Spread:
        return rates(self.runs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = dataclasses.asdict(self)
        if self.runs:
            found["images_per_second"] = self.rate.as_dict()
        return found


def compare(
    members: Sequence[Member],
    task: Task,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    together: float | None = None,
) -> list[Outcome]:
    """Prepares everyone, checks their images, then lets them take turns.

    Args:
        rounds: how often each runs.
        seconds: the least time of a run.
        say: told what is being prepared.
        together: everyone prepares at the same time, which may take so many seconds [s]; None: one after the other.
    """
    outcomes, ready = {}, {}
    if together is not None:
        say("setting up")
        for member in members:
            member.begin(task)
    end = time.monotonic() + (together or 0.0)
    expected = parity.reference(task, systems=4)
    for member in members:
        if together is None:
            say(f"{member.name}: setting up")
        answer = member.prepare(task) if together is None else member.ready(max(0.1, end - time.monotonic()))
        outcome = outcomes[member.name] = Outcome(member.name, processes=len(member.placement))
        if "refused" in answer:
            outcome.refused = answer["refused"]
            continue
        outcome.warm_up, outcome.dtype, outcome.notes = answer["warm_up"], answer["dtype"], answer["notes"]
        outcome.device = answer["device"]
        if expected is not None and answer["images"] is not None:
            outcome.deviation = parity.deviation(answer["images"], expected, task)
            if outcome.deviation > parity.tolerance(task):
                outcome.refused = (
                    f"renders something else: {outcome.deviation:.1e} of the peak from lenstronomy, allowed "
                    f"{parity.tolerance(task):.0e}"
                )
                continue
        ready[member.name] = member
    if together is not None:
        for name, member in ready.items():
            outcomes[name].notes = member.choose()
    say("taking turns")
    measures = {name: functools.partial(member.measure, seconds) for name, member in ready.items()}
    for name, runs in alternate(measures, rounds).items():
        outcomes[name].runs = runs
    return list(outcomes.values())


def times_as_fast(outcomes: Sequence[Outcome], reference: str) -> dict[str, Spread]:
    """Each contender's ratio to the reference, of runs of the same round; empty if the reference did not run."""
    other = next((o for o in outcomes if o.contender == reference and o.runs), None)
    return {} if other is None else {o.contender: ratios(o.runs, other.runs) for o in outcomes if o.runs}
