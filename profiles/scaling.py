"""How the cost of an image grows: `python -m profiles.scaling`.

With pixels, number of subhalos (points, TNFW), rays a pixel and batch, one varied at a time. Contenders take turns at
each point. Over the last points of a series, where the thing that is varied dominates, the time an image is fitted by a
power law (least squares of the logarithms).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from lensgen.device import resolve_device
from lensgen.errors import ParameterError, lookup, require_number, require_whole
from profiles import machine, report
from profiles.cases import CASES, Case, Task
from profiles.contenders import engines_on, entries
from profiles.measure import compare
from profiles.plots import draw_scaling
from profiles.team import Member, prepare_limit

FITTED = 3  # points at the far end of a series that the power law is fitted to

AXES = {
    "pixels": "pixels of an image",
    "points": "point masses",
    "tnfw": "TNFW subhalos",
    "supersampling": "rays a pixel",
    "batch": "images a batch",
}


@dataclass(frozen=True)
class Scaling:
    """Measures how the time an image takes grows."""

    axes: tuple[str, ...] = tuple(AXES)
    """What is varied: pixels, points, tnfw, supersampling, batch."""
    engines: tuple[str, ...] = ()
    """Contenders; all lensgen engines and lenstronomy by default."""
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Pixels along an axis."""
    counts: tuple[int, ...] = (1, 3, 10, 30, 100, 300)
    """Subhalos."""
    supersampling: tuple[int, ...] = (1, 2, 4, 8)
    """Rays a pixel along an axis."""
    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Images rendered at a time."""
    size: int = 64
    """Pixels along an axis where they are not varied."""
    batch: int = 64
    """Images at a time where they are not varied."""
    noise: Literal["on", "off"] = "on"
    """With noise or without."""
    cores: Literal["one", "all"] = "one"
    """One core, pinned, or all that may be used."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where engines that can use a GPU compute."""
    repeats: int = 5
    """Rounds."""
    seconds: float = 0.5
    """Least time of a run."""
    budget: float | None = None
    """What has not begun after so many seconds is left out."""
    out: Path | None = None
    """Results without suffix; profiles/results/scaling by default."""
    quick: bool = False
    """Three tiny points an axis. Not to be quoted."""

    def __post_init__(self) -> None:
        for name in self.axes:
            lookup("axis", name, AXES)
        for name in self.engines:
            if lookup("contender", name, entries()).presets:
                raise ParameterError(f"--engines {name!r} renders presets alone, which are not scaled.")
        for option in ("sizes", "counts", "supersampling", "batches"):
            for value in getattr(self, option):
                require_whole(f"--{option}", value, 1, 65536)
        require_whole("--repeats", self.repeats, 1, 10_000)
        require_number("--seconds", self.seconds, 0.0, 3600.0, "s")
        resolve_device(self.device)


def series_of(config: Scaling) -> dict[str, list[tuple[float, Task]]]:
    """For each axis the values and the tasks that have them."""
    start = Task(CASES["sie"], config.size, batch=config.batch, noise=config.noise == "on", device=config.device)
    change = dataclasses.replace

    def halos(kind: str) -> list[tuple[float, Task]]:
        return [(n, change(start, case=Case(f"{n} {kind}", kind=kind, count=n))) for n in config.counts]

    series: dict[str, list[tuple[float, Task]]] = {
        "pixels": [(n * n, change(start, size=n)) for n in config.sizes],
        "points": halos("points"),
        "tnfw": halos("tnfw"),
        "supersampling": [(s * s, change(start, supersampling=s)) for s in config.supersampling],
        "batch": [(n, change(start, batch=n)) for n in config.batches],
    }
    return {axis: series[axis] for axis in config.axes}


def fit_power(values: Sequence[float], seconds: Sequence[float], points: int = FITTED) -> dict[str, Any] | None:
    """seconds = factor * value^exponent over the last `points`; None for fewer than two.

    `residual` is the largest relative distance of a fitted point from the law.
    """
    x, y = np.asarray(values[-points:], float), np.asarray(seconds[-points:], float)
    if len(x) < 2 or len(set(x)) < 2:
        return None
    exponent, offset = np.polyfit(np.log(x), np.log(y), 1)
    law = np.exp(offset) * x**exponent
    return {
        "exponent": float(exponent),
        "factor": float(np.exp(offset)),
        "points": x.tolist(),
        "residual": float(np.abs(y / law - 1.0).max()),
    }


def measure(config: Scaling) -> tuple[list[dict[str, Any]], list[str]]:
    """One record for each axis and contender, and the points that there was no time for."""
    default = (*engines_on(config.device), "lenstronomy")
    members = [Member(name, config.cores, config.device) for name in config.engines or default]
    plan = series_of(config)
    progress = report.Progress(sum(map(len, plan.values())), config.budget)
    together = prepare_limit(config.budget) if config.device == "cuda" else None  # there they do not share cores
    found: dict[tuple[str, str], dict[str, Any]] = {}
    try:
        for axis, points in plan.items():
            for value, task in points:
                if progress.leaves_out(f"{axis}: {value:g}"):
                    continue
                for outcome in compare(members, task, config.repeats, config.seconds, report.note, together):
                    empty = {
                        "axis": AXES[axis], "contender": outcome.contender, "values": [], "images_per_second": [],
                        "case": task.case.kind, "outcomes": [],
                    }  # fmt: skip
                    record = found.setdefault((axis, outcome.contender), empty)
                    record["outcomes"].append({"value": value, **outcome.as_dict()})
                    if outcome.runs:
                        record["values"].append(value)
                        record["images_per_second"].append(outcome.rate.as_dict())
    finally:
        for member in members:
            member.close()
    for record in found.values():
        seconds = [1.0 / rate["median"] for rate in record["images_per_second"]]
        record["fit"] = fit_power(record["values"], seconds)
    return list(found.values()), progress.left_out


def text_of(content: dict[str, Any]) -> str:
    """The tables."""
    settings = content["settings"]
    parts = ["# Scaling", machine.one_line(content["machine"])]
    parts.append(
        f"Median images/s of {settings['repeats']} runs of at least {settings['seconds']:g} s, taken in turns; SIE and "
        f"shear, {settings['size']}x{settings['size']} pixels, batch {settings['batch']}, noise {settings['noise']}, "
        f"{report.place(settings)}, where not varied. Time an image goes as the power given, fitted to the last "
        f"{FITTED} points (largest distance from the law in brackets)."
    )
    if settings["quick"]:
        parts.append("**A quick look with runs too short to be quoted.**")
    for axis in dict.fromkeys(record["axis"] for record in content["records"]):
        records = [record for record in content["records"] if record["axis"] == axis]
        values = list(dict.fromkeys(o["value"] for record in records for o in record["outcomes"]))
        rows = []
        for record in records:
            rate = dict(zip(record["values"], record["images_per_second"], strict=True))
            shown = [report.number(rate[v]["median"]) if v in rate else "refused" for v in values]
            fit = record["fit"]
            law = "" if fit is None else f"{fit['exponent']:.2f} ({fit['residual']:.0%})"
            rows.append([record["contender"], *shown, law])
        head = [axis, *(f"{value:,.0f}" for value in values), "power"]
        parts.append(report.markdown(head, rows))
    refused = {
        f"{record['contender']}, {o['value']:g} {record['axis']}: {o['refused']}"
        for record in content["records"]
        for o in record["outcomes"]
        if o["refused"]
    }
    parts += report.left_out(content)
    return "\n\n".join([*parts, *(["Refused: " + "; ".join(sorted(refused))] if refused else [])])


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Scaling, args=argv, prog="python -m profiles.scaling")
    if config.quick:
        config = dataclasses.replace(
            config, sizes=(8, 16, 24), counts=(1, 2, 4), supersampling=(1, 2, 3), batches=(1, 2, 4), size=16, batch=2,
            repeats=2, seconds=0.02,
        )  # fmt: skip
    out = report.where(config.out, "scaling")
    about = machine.describe()
    records, left_out = measure(config)
    kept = ("repeats", "seconds", "size", "batch", "noise", "cores", "device", "quick")
    settings = {name: getattr(config, name) for name in kept} | {"left_out": left_out}
    content = {"machine": about, "settings": settings, "records": records}
    report.write(out, "scaling", content, text_of(content))
    draw_scaling([record for record in records if record["values"]], out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
