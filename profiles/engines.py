"""All engines and peers on one card, in one run: `python -m profiles.engines --device cuda`.

With PSF and noise, lensgen's engines and lenstronomy (on one core); noise-free, lensgen beside caustics and what
torch.compile makes of lensgen's own formulas. Contenders take turns as in profiles.throughput. Everyone sets up before
anything is timed, those that compile for long in a process for each task; `--wait` lets them do so until a line with
the seconds for the rest arrives on stdin. Results are written after each task.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from lensgen.device import resolve_device
from lensgen.errors import lookup, require_number, require_whole
from profiles import machine, report
from profiles.cases import CASES, Case, Task
from profiles.contenders import engines_on, entries
from profiles.measure import compare, times_as_fast
from profiles.team import PREPARE_LIMIT, Member
from profiles.throughput import record_of

SHOWN = {case.name: case for case in (*CASES.values(), Case("500 tnfw", kind="tnfw", count=500))}
COMPILING = ("caustics, compiled", "lensgen, compiled")  # for half a minute and more
REFERENCES = ("caustics, compiled", "caustics", "lensgen torch", "lenstronomy")


@dataclass(frozen=True)
class Engines:
    """Compares all engines and peers on one device."""

    device: Literal["cpu", "cuda"] = "cuda"
    """Where those that can use a GPU compute; the others use the CPU."""
    cases: tuple[str, ...] = ("sie", "25 points", "25 tnfw", "rod", "100 tnfw", "500 tnfw")
    """With PSF and noise."""
    against: tuple[str, ...] = ("sie", "25 points", "25 tnfw", "100 tnfw")
    """Noise-free, beside peers that have no noise."""
    batches: tuple[int, ...] = (2048, 256)
    """Images at a time; peers and engines of the CPU are timed in the first alone."""
    size: int = 64
    """Pixels along an axis."""
    repeats: int = 5
    """Rounds."""
    seconds: float = 0.15
    """Least time of a run."""
    budget: float | None = None
    """What has not begun after so many seconds is left out."""
    wait: bool = False
    """Set up, then wait for a line on stdin: the budget."""
    contenders: tuple[str, ...] = ()
    """Who takes part; all by default."""
    out: Path | None = None
    """Results without suffix; profiles/results/engines by default."""

    def __post_init__(self) -> None:
        for name in (*self.cases, *self.against):
            lookup("case", name, SHOWN)
        for name in self.contenders:
            lookup("contender", name, entries())
        for value in (*self.batches, self.size):
            require_whole("--batches and --size", value, 1, 65536)
        require_whole("--repeats", self.repeats, 1, 10_000)
        require_number("--seconds", self.seconds, 0.0, 3600.0, "s")
        resolve_device(self.device)


def tasks_of(config: Engines) -> list[Task]:
    """What is rendered, the most telling first: smooth lenses, the largest batch, then without noise, then the rest."""

    def task(name: str, batch: int, noise: bool) -> Task:
        return Task(SHOWN[name], config.size, batch=batch, noise=noise, device=config.device)

    largest, others = config.batches[0], config.batches[1:]
    found = [task(name, batch, True) for name in config.cases[:1] for batch in config.batches]
    found += [task(name, largest, True) for name in config.cases[1:]]
    found += [task(name, largest, False) for name in config.against]
    return found + [task(name, batch, True) for batch in others for name in config.cases[1:]]


def contenders_of(config: Engines, task: Task) -> list[str]:
    """Who renders a task, of those that take part and are installed."""
    return [name for name in _asked(config, task) if not entries()[name].missing]


def missing_of(config: Engines) -> list[str]:
    """Who would render some task, and is not installed."""
    asked = dict.fromkeys(name for task in tasks_of(config) for name in _asked(config, task))
    return [name for name in asked if entries()[name].missing]


def _asked(config: Engines, task: Task) -> list[str]:
    return [name for name in _able(config, task) if name in config.contenders or not config.contenders]


def _able(config: Engines, task: Task) -> list[str]:
    there = engines_on(config.device)
    if not task.noise:
        return [*there, *COMPILING, "caustics"]
    if task.batch != config.batches[0]:
        return there
    elsewhere = [name for name in engines_on("cpu") if name not in there and not name.endswith("_closed")]
    return [*there, *elsewhere, "lenstronomy"]


class Teams:
    """The processes: one a contender, and one for each task of a contender that compiles for long."""

    def __init__(self, config: Engines) -> None:
        self.config = config
        self._members: dict[tuple[str, Task | None], Member] = {}

    def members(self, task: Task) -> list[Member]:
        return [self._member(name, task) for name in contenders_of(self.config, task)]

    def begin(self, tasks: Sequence[Task]) -> None:
        """Lets everyone set up, each for the first of its tasks."""
        for task in tasks:
            for name in contenders_of(self.config, task):
                if self._key(name, task) not in self._members:
                    self._member(name, task).begin(task)

    def _compiles(self, name: str) -> bool:
        """torch.compile; and beside a GPU the CPU engine, which compiles a kernel for each case."""
        return name in COMPILING or (name.startswith("lensgen ") and self.config.device not in entries()[name].devices)

    def _key(self, name: str, task: Task) -> tuple[str, Task | None]:
        return name, task if self._compiles(name) else None

    def _member(self, name: str, task: Task) -> Member:
        key = self._key(name, task)
        if key not in self._members:
            self._members[key] = Member(name, "all" if entries()[name].threads else "one", self.config.device)
        return self._members[key]

    def close(self) -> None:
        for member in self._members.values():
            member.close()


def measure(config: Engines, tasks: Sequence[Task], teams: Teams, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """One record a task."""
    began = time.monotonic()
    progress = report.Progress(len(tasks), config.budget)
    progress.left_out = left_out
    for task in tasks:
        title = f"{task.case.name}, {'noise' if task.noise else 'no noise'}, batch {task.batch}"
        if progress.leaves_out(title):
            continue
        left = PREPARE_LIMIT if config.budget is None else config.budget - (time.monotonic() - began)
        # on a CPU they would share its cores; what began early has had its time by now
        patience = max(10.0, left / 3) if config.device == "cuda" else None
        outcomes = compare(teams.members(task), task, config.repeats, config.seconds, report.note, patience)
        record = record_of("all", task, outcomes)
        for name in REFERENCES:
            record["times_as_fast_as"][name] = {n: s.as_dict() for n, s in times_as_fast(outcomes, name).items()}
        yield record


def text_of(content: dict[str, Any]) -> str:
    """The tables: a row a case and batch, a column a contender."""
    settings = content["settings"]
    parts = [
        "# Engines",
        machine.one_line(content["machine"]),
        f"Images a second, median of {settings['repeats']} runs of at least {settings['seconds']:g} s, taken in turns; "
        f"{settings['size']}x{settings['size']} pixels, one ray a pixel, Gaussian PSF; SIE and shear, Sersic source. "
        "Systems are drawn before; setting up and compiling is not part of the runs. Beside a GPU, contenders on the "
        "CPU are timed on 64 of the systems, with all cores; lenstronomy, an image at a time, on one.",
    ]
    for noise in (True, False):
        records = [record for record in content["records"] if record["noise"] == noise]
        if records:
            parts += ["## " + ("With noise" if noise else "Noise-free"), _table(records)]
    refused = {
        f"{o['contender']} ({r['case']}): {o['refused']}"
        for r in content["records"]
        for o in r["outcomes"]
        if o["refused"]
    }
    parts += ["Not installed: " + "; ".join(settings["missing"]) + "."] if settings["missing"] else []
    parts += ["Not timed: " + "; ".join(sorted(refused)) + "."] if refused else []
    return "\n\n".join([*parts, *report.left_out(content)])


def _table(records: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(o["contender"] for r in records for o in r["outcomes"] if not o["refused"]))
    rows = []
    for record in records:
        rate = {o["contender"]: o["images_per_second"]["median"] for o in record["outcomes"] if not o["refused"]}
        shown = [report.number(rate[name]) if name in rate else "" for name in names]
        rows.append([record["case"], f"{record['batch']:,}", *shown])
    return report.markdown(["case", "batch", *names], rows)


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Engines, args=argv, prog="python -m profiles.engines")
    out = report.where(config.out, "engines")
    about, tasks, teams = machine.describe(), tasks_of(config), Teams(config)
    records: list[dict[str, Any]] = []
    left_out: list[str] = []
    kept = ("device", "size", "repeats", "seconds", "batches")
    settings = {name: getattr(config, name) for name in kept} | {"left_out": left_out, "missing": missing_of(config)}
    content = {"machine": about, "settings": settings, "records": records}
    try:
        teams.begin(tasks)
        if config.wait:
            config = dataclasses.replace(config, budget=0.9 * float(sys.stdin.readline()))
        for record in measure(config, tasks, teams, left_out):
            records.append(record)
            report.save(out, "engines", content, text_of(content))
    finally:
        teams.close()
    report.write(out, "engines", content, text_of(content))


if __name__ == "__main__":
    report.run(main)
