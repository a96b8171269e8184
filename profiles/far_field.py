"""What the far field of hundreds of subhalos brings: `python -m profiles.far_field`.

The fused CPU engine with tables and far field, with tables alone (as if no component had slots enough), and in closed
form. They take turns at each number of TNFW subhalos, all of them in slots that are in use, on one thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import tyro

from lensgen import fused
from lensgen.errors import require_number, require_whole
from lensgen_kernels import far_field
from profiles import machine, report
from profiles.cases import Case, Task
from profiles.contenders import build
from profiles.plots import draw_scaling
from profiles.scaling import fit_power
from profiles.timing import Spread, alternate, keep_going, rates, ratios

AXIS = "TNFW subhalos"
# name -> lensgen's engine, and from how many slots on there is a far field
WAYS = {"far field": ("cpu", 1), "tables": ("cpu", 10**9), "closed form": ("cpu_closed", 10**9)}


@dataclass(frozen=True)
class FarField:
    """Measures images with many subhalos with and without a far field."""

    counts: tuple[int, ...] = (10, 30, 100, 200, 500, 800)
    """Subhalos."""
    sizes: tuple[int, ...] = (64, 150)
    """Pixels along an axis, of 3.2 arcsec in all."""
    batch: int = 16
    """Images at a time."""
    repeats: int = 7
    """Rounds."""
    seconds: float = 0.3
    """Least time of a run."""
    out: Path | None = None
    """Results without suffix; profiles/results/far_field by default."""
    quick: bool = False
    """Two small points. Not to be quoted."""

    def __post_init__(self) -> None:
        for option in ("counts", "sizes"):
            for value in getattr(self, option):
                require_whole(f"--{option}", value, 1, 65536)
        require_whole("--batch", self.batch, 1, 65536)
        require_whole("--repeats", self.repeats, 1, 10_000)
        require_number("--seconds", self.seconds, 0.0, 3600.0, "s")


@contextlib.contextmanager
def from_slots(many: int) -> Iterator[None]:
    """The far field begins at so many slots."""
    with mock.patch.object(fused, "MANY", many):
        yield


def measure(config: FarField) -> list[dict[str, Any]]:
    """One record for each size and way."""
    torch.set_num_threads(1)
    progress = report.Progress(len(config.sizes) * len(config.counts))
    records: list[dict[str, Any]] = []
    for size in config.sizes:
        of_size: dict[str, dict[str, Any]] = {
            way: {"axis": AXIS, "contender": way, "case": f"{size}x{size}", "size": size, "values": [],
                  "images_per_second": [], "times_as_fast_as_tables": [], "off": [], "runs": []}
            for way in WAYS
        }  # fmt: skip
        for count in config.counts:
            progress(f"{size}x{size}, {count} {AXIS}")
            case = Case(f"{count} tnfw", kind="tnfw", count=count)
            task = Task(case, size, pixel_scale=3.2 / size, batch=config.batch)
            for way, outcome in _compared(task, config).items():
                record = of_size[way]
                record["values"].append(count)
                for name, value in outcome.items():
                    record[name].append(value)
        records += of_size.values()
    for record in records:
        record["fit"] = fit_power(record["values"], [1.0 / rate["median"] for rate in record["images_per_second"]])
    return records


def _compared(task: Task, config: FarField) -> dict[str, dict[str, Any]]:
    """Speeds, and largest differences from the closed form over the peak."""
    contenders = {way: build(f"lensgen {engine}", task) for way, (engine, _) in WAYS.items()}
    images = {}
    for way, (_, many) in WAYS.items():
        with from_slots(many):
            images[way] = np.asarray(contenders[way].check_images())

    def run(way: str) -> tuple[float, float]:
        with from_slots(WAYS[way][1]):
            items, seconds = keep_going(contenders[way].render, contenders[way].wait, config.seconds)
        return float(items), seconds

    for way in WAYS:
        run(way)
    runs = alternate({way: functools.partial(run, way) for way in WAYS}, config.repeats)
    exact = images["closed form"]
    return {
        way: {
            "images_per_second": rates(runs[way]).as_dict(),
            "times_as_fast_as_tables": ratios(runs[way], runs["tables"]).as_dict(),
            "off": float(np.abs(images[way] - exact).max() / exact.max()),
            "runs": [dataclasses.asdict(one) for one in runs[way]],
        }
        for way in WAYS
    }


def text_of(content: dict[str, Any]) -> str:
    """The tables."""
    settings = content["settings"]
    parts = ["# Far field", machine.one_line(content["machine"])]
    parts.append(
        f"Images/s of the fused CPU engine, median (least to most) of {settings['repeats']} runs of at least "
        f"{settings['seconds']:g} s, taken in turns; SIE, shear and TNFW subhalos, batch {settings['batch']}, "
        "noise-free, one thread. Ratios are of runs of the same round. Off: the largest difference from the closed "
        f"form, over the peak. All counts have a far field here; usually, those with room for {settings['many']} slots."
    )
    if settings["quick"]:
        parts.append("**A quick look with runs too short to be quoted.**")
    rows = [
        [record["case"], f"{count:,}", record["contender"],
         report.with_spread(Spread(**record["images_per_second"][k])),
         report.with_spread(Spread(**record["times_as_fast_as_tables"][k])), f"{record['off'][k]:.0e}"]
        for case in dict.fromkeys(record["case"] for record in content["records"])
        for k, count in enumerate(content["records"][0]["values"])
        for record in content["records"] if record["case"] == case
    ]  # fmt: skip
    parts.append(report.markdown(["pixels", AXIS, "way", "images/s", "x tables", "off"], rows))
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(FarField, args=argv, prog="python -m profiles.far_field")
    if config.quick:
        config = dataclasses.replace(config, counts=(2, 130), sizes=(16,), batch=2, repeats=2, seconds=0.02)
    out = report.where(config.out, "far_field")
    about = machine.describe()
    records = measure(config)
    kept = ("repeats", "seconds", "batch", "quick")
    settings = {name: getattr(config, name) for name in kept} | {"many": far_field.MANY, "epsilon": far_field.EPSILON}
    content = {"machine": about, "settings": settings, "records": records}
    report.write(out, "far_field", content, text_of(content))
    draw_scaling(records, out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
