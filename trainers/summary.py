"""What a finished run says of itself: `summary.json` and a page on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.data import Data
from trainers.logs import read_table, write_json
from trainers.loop import Loop
from trainers.timing import seconds_since_start


def write_summary(loop: Loop, data: Data, figures: list[Path], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes `summary.json` into the run's folder, with `more` in it, prints it for people, and returns it.

    `images_distinct` counts the different `Batch.index` among the images that were trained on, and `untrained` are the
    validation figures of step 0: of the same model as it was initialised.

    Raises:
        OutputError: the file could not be written.
    """
    progress = loop.progress
    images = progress.step * loop.images_per_step
    distinct = len(loop.seen)
    rows = [
        {name: float(value) for name, value in row.items() if name != "step"}
        for row in read_table(loop.folder / "validation.csv")
    ]
    summary = {
        "steps": progress.step,
        "parameters": sum(parameter.numel() for parameter in loop.task.model.parameters()),
        "images_seen": images,
        "images_distinct": distinct,
        "images_repeated": images - distinct,
        "images_per_second": round(images / progress.training_seconds, 1),
        "share_of_time_simulating": round(progress.share_simulating(), 4),
        "minutes_training": round(progress.training_seconds / 60, 2),
        "minutes_of_this_session": round(seconds_since_start() / 60, 2),
        "device": str(loop.fabric.device),
        "data": data.identity,
        "classes": list(data.class_names),
        "untrained": rows[0],
        "trained": rows[-1],
        "checkpoint": str(loop.checkpoint),
        "figures": [str(path) for path in figures],
        **(more or {}),
    }
    with loop.writing():
        write_json(loop.folder / "summary.json", summary)
    print(as_text(summary))
    return summary


def as_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    repeats = f"{summary['images_repeated']:,} of them repeats" if summary["images_repeated"] else "all different"
    heading = "on validation images"
    if any("accuracy" in name for name in summary["trained"]):
        heading += f" (chance of a class {1 / len(summary['classes']):.2f})"
    lines = [
        "",
        f"parameters       {summary['parameters']:,}",
        f"images seen      {summary['images_seen']:,}, {repeats}",
        f"speed            {summary['images_per_second']:,.0f} images/s on {summary['device']}, "
        f"{summary['share_of_time_simulating']:.0%} of the time waiting for them",
        f"time             {summary['minutes_of_this_session']:.1f} minutes in all, "
        f"{summary['minutes_training']:.1f} of them training ({summary['steps']:,} steps)",
        "",
        f"{heading:<42s} {'untrained':>12s}{'trained':>12s}",
    ]
    for name, value in summary["trained"].items():
        lines.append(f"  {name:<40s} {summary['untrained'][name]:>12.4g}{value:>12.4g}")
    lines += ["", f"checkpoint       {summary['checkpoint']}"]
    lines += [f"figure           {path}" for path in summary["figures"]]
    return "\n".join(lines)
