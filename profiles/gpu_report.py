"""Everything that a GPU is needed for, in one command of at most eight minutes: `make gpu-report`.

Tests, all engines and peers, what a training step waits, a short masked autoencoder, drawn numbers against the CPU's,
compute-sanitizer, the other profiles. Each step is a process with a time limit of its own, so that one which fails or
hangs is a line of the report; the report is written after each, and Ctrl-C keeps what is done.

`--quick` runs the same steps at tiny sizes on a CPU, to show that they run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from lensgen.errors import ParameterError, lookup, require_number
from profiles import machine, report
from profiles.card import slug
from profiles.gpu_page import page
from profiles.gpu_steps import steps_of
from profiles.gpu_targets import targets
from profiles.steps import WAITING, Outcome, run_steps

_MINUTES, _QUICK_MINUTES = 7.75, 4.0  # at most, of all steps: imports before and the page after them take seconds
_PICTURES = {name: f"{name}.png" for name in ("throughput", "scaling", "overlap", "memory")}
_PICTURES["mae"] = "mae_run/reconstructions.png"


@dataclass(frozen=True)
class GpuReport:
    """Tests, compares and measures everything on a GPU, and writes a page."""

    minutes: float | None = None
    """Time of all steps together."""
    steps: tuple[str, ...] = ()
    """Which of them; all by default."""
    out: Path | None = None
    """The page without suffix; profiles/results/gpu_report_CARD by default, build/gpu_report_quick with --quick."""
    quick: bool = False
    """The same steps at tiny sizes on a CPU. Not to be quoted."""

    def __post_init__(self) -> None:
        if self.minutes is not None:
            require_number("--minutes", self.minutes, 0.1, 1000.0, "min")
        names = dict.fromkeys(step.name for step in steps_of(Path(), self.quick))
        for name in self.steps:
            lookup("step", name, names)
        if not self.quick and not torch.cuda.is_available():
            raise ParameterError("no CUDA device: the report is of a GPU. --quick runs the same steps on a CPU.")

    @property
    def budget(self) -> float:
        """Seconds of all steps."""
        return 60.0 * (self.minutes or (_QUICK_MINUTES if self.quick else _MINUTES))


class Report:
    """The page and the JSON file, written anew with all that is known."""

    def __init__(self, config: GpuReport, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.begin, self.ended = time.monotonic(), False
        self.out = report.where(config.out, "gpu_report") if config.out else None
        if config.quick and self.out is None:
            self.out = machine.ROOT / "build" / "gpu_report_quick"  # build/ is no part of the repository

    def save(self, outcomes: list[Outcome]) -> None:
        card = next((dict(o.result) for o in outcomes if o.name == "card"), {})
        if self.out is None:
            if any(o.name == "card" and o.status == WAITING for o in outcomes):
                return  # its name is the page's; asked for here, it would take up memory of the GPU all the time
            self.out = report.RESULTS / f"gpu_report_{slug(card.get('name', ''))}"
        out, about = self.out, card.pop("machine", {})
        content: dict[str, Any] = {
            "machine": about,
            "card": card,
            "settings": {
                "quick": self.config.quick, "budget": self.config.budget, "seconds": time.monotonic() - self.begin,
                "ended": self.ended,
            },
            "targets": targets(outcomes, self.config.quick),
            "steps": [asdict(outcome) for outcome in outcomes],
        }  # fmt: skip
        report.save(out, "gpu_report", content, page(content, self._pictures(out)))

    def _pictures(self, out: Path) -> dict[str, str]:
        """Copies the pictures that there are beside the page."""
        out.parent.mkdir(parents=True, exist_ok=True)
        found = {}
        for name, file in _PICTURES.items():
            picture = self.folder / file
            if picture.exists():
                found[name] = f"{out.name}_{name}.png"
                shutil.copyfile(picture, out.with_name(found[name]))
        return found


def main(argv: list[str] | None = None) -> int:
    """Runs all steps and reports; the exit status: 0 whatever became of the steps, 130 after Ctrl-C."""
    config = tyro.cli(GpuReport, args=argv, prog="python -m profiles.gpu_report")
    with tempfile.TemporaryDirectory(prefix="gpu_report_") as name:
        folder = Path(name)
        steps = [step for step in steps_of(folder, config.quick) if not config.steps or step.name in config.steps]
        written = Report(config, folder)
        last: list[Outcome] = []

        def save(outcomes: list[Outcome]) -> None:
            last[:] = outcomes
            written.save(outcomes)

        try:
            written.ended = run_steps(steps, config.budget, folder, _say, save)
        finally:
            written.save(last)
    if written.out is not None:
        _say(f"{time.monotonic() - written.begin:.0f} s: {written.out.with_suffix('.md')}")
    for line in targets(last, config.quick):
        print(f"{line['verdict']}: {line['what']}: {line['found'] or '-'} (aim: {line['aim']})")
    return 0 if written.ended else 130


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    report.run(lambda: sys.exit(main()))
