"""The unit of a reproduction: one training run, whose result is on the disk or is not there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = {
    "mae": ("summary.json",),
    "classify": ("metrics.json", "summary.json"),
    "pinn": ("metrics.json", "summary.json"),
    "superres": ("metrics.json", "summary.json"),
    "ssl": ("metrics.json", "summary.json"),
    "jepa": ("metrics.json", "summary.json"),
    "regress": ("metrics.json", "summary.json"),
}


@dataclass(frozen=True)
class Cell:
    """A run of a trainer.

    Args:
        name: also its folder in that of the reproduction, e.g. "paper/seed0/mask_0.9/classify".
        trainer: one of `RESULTS`.
        kind: runs of one kind cost the same; one of them is timed for all.
        steps: of the whole protocol, at scale 1.
        options: of the trainer, as its recipes have them; a path below the reproduction's folder is written as
            `{root}/...`.
        after: name of the run whose result this one begins with, in place of a new `model`.
    """

    name: str
    trainer: str
    kind: str
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    after: str | None = None

    def steps_at(self, scale: float) -> int:
        """Steps at a scale of the protocol; a multiple of 8, so that checkpoints can be taken at even distances."""
        return max(8, 8 * round(self.steps * scale / 8))

    def is_done(self, root: Path) -> bool:
        """Whether its results are there."""
        return all((root / self.name / file).is_file() for file in RESULTS[self.trainer])

    def recipe(self, root: Path, scale: float) -> dict[str, Any]:
        """What the trainer is given, at a scale of the protocol."""
        steps = self.steps_at(scale)
        options = {**self.options, "steps": steps}
        for name in ("validate_every", "checkpoint_every"):  # given as how many times in a run
            options[name] = max(1, steps // options.get(name, 1))
        if self.after is not None:
            options["encoder"] = str(root / self.after)
            options.pop("model", None)
        if options.get("data") is not None:
            options["data"] = str(options["data"]).format(root=root)
        return options


def read_result(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """`summary.json` and, where the trainer writes one, `metrics.json` of a run; empty for one that is not done."""
    found: list[dict[str, Any]] = []
    for file in ("summary.json", "metrics.json"):
        path = root / name / file
        found.append(json.loads(path.read_text()) if path.is_file() else {})
    return found[0], found[1]
