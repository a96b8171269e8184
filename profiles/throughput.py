"""Images a second of every engine beside lenstronomy, caustics and JAXtronomy: `python -m profiles.throughput`.

Same systems, same PSF, side by side in one run: contenders take turns, at least five times at least `--seconds` each,
after everyone has compiled and shown that its images are lenstronomy's. Drawing parameters is outside the timing on all
sides; the rows of presets say what it costs. With `--noise on`, lensgen adds its CCD noise and lenstronomy that of
SingleBand.noise_for_model; caustics and JAXtronomy have none, and are met with `--noise off`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

import lensgen
from lensgen.device import resolve_device
from lensgen.errors import ParameterError, lookup, require_number, require_whole
from lensgen.noise import NOISE_RECIPES
from lensgen.render import ENGINES
from profiles import machine, parity, report
from profiles.cases import CASES, Case, Task
from profiles.contenders import entries
from profiles.measure import Outcome, compare, times_as_fast
from profiles.plots import draw_throughput
from profiles.tables import throughput_text
from profiles.team import Member, prepare_limit

PEERS = ("caustics", "caustics, compiled", "caustics, JAX", "JAXtronomy")


@dataclass(frozen=True)
class Throughput:
    """Measures images a second, side by side."""

    cases: tuple[str, ...] = tuple(CASES)
    """Kinds of lens."""
    presets: tuple[str, ...] = ("model_a", "model_b", "deeplense_ii_legacy", "deeplense_i_legacy")
    """Presets, from index to pixels and by the renderer alone; give none by --presets ""."""
    engines: tuple[str, ...] = ()
    """Contenders, e.g. "lensgen torch" lenstronomy; all by default."""
    sizes: tuple[int, ...] = (64,)
    """Pixels along an axis."""
    supersampling: tuple[int, ...] = (1,)
    """Rays a pixel along an axis."""
    batches: tuple[int, ...] = (64,)
    """Systems rendered at a time."""
    noise: Literal["on", "off", "both"] = "both"
    """On: against lenstronomy with its noise. Off: against those who have none too."""
    recipe: str = "ccd"
    """lensgen's noise; "lenstronomy" is the same as lenstronomy's."""
    pixel_scale: float = 0.05
    """arcsec."""
    cores: Literal["one", "all", "both"] = "both"
    """One core, pinned; or all that may be used (contenders with one thread as one process a core)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where contenders that can use a GPU compute."""
    repeats: int = 5
    """Rounds; each contender runs once in each."""
    seconds: float = 1.0
    """Least time of a run."""
    budget: float | None = None
    """What has not begun after so many seconds is left out."""
    out: Path | None = None
    """Results without suffix; profiles/results/throughput by default."""
    quick: bool = False
    """A look in seconds: one case and preset, one core, two short rounds, nothing that compiles. Not to be quoted."""

    def __post_init__(self) -> None:
        for name in self.cases:
            lookup("case", name, CASES)
        for name in self.chosen_presets:
            lookup("preset", name, dict.fromkeys(lensgen.presets()))
        for name in self.engines:
            lookup("contender", name, entries())
        lookup("noise recipe", self.recipe, NOISE_RECIPES)
        for option in ("sizes", "supersampling", "batches"):
            for value in getattr(self, option):
                require_whole(f"--{option}", value, 1, 65536)
        require_whole("--repeats", self.repeats, 1, 10_000)
        require_number("--seconds", self.seconds, 0.0, 3600.0, "s")
        require_number("--pixel-scale", self.pixel_scale, 1e-3, 10.0, "arcsec")
        if not self.cases and not self.chosen_presets:
            raise ParameterError("nothing to measure: give --cases or --presets.")
        resolve_device(self.device)

    @property
    def chosen_presets(self) -> tuple[str, ...]:
        return tuple(name for name in self.presets if name)

    @property
    def contenders(self) -> tuple[str, ...]:
        if self.engines:
            return self.engines
        left: tuple[str, ...] = ("compiled", "JAX") if self.quick else ()
        left += ("LensStream",) if self.device == "cpu" else ()  # which is Simulator.batch there
        able = [name for name, entry in entries().items() if self.device != "cpu" or "cpu" in entry.devices]
        return tuple(name for name in able if not any(word in name for word in left))


def shortened(config: Throughput) -> Throughput:
    """The least that shows that everything works."""
    return Throughput(
        cases=config.cases[:1], presets=config.chosen_presets[:1], engines=config.engines, sizes=(24,), batches=(4,),
        noise=config.noise, recipe=config.recipe, cores="one", device=config.device, repeats=2, seconds=0.02,
        budget=config.budget, out=config.out, quick=True,
    )  # fmt: skip


def tasks_of(config: Throughput) -> list[Task]:
    """Everything that is measured on one set of cores."""
    noises = {"on": (True,), "off": (False,), "both": (True, False)}[config.noise]
    tasks = [
        Task(CASES[case], size, config.pixel_scale, s, batch, noise, config.recipe, config.device)
        for noise in noises
        for size in config.sizes
        for s in config.supersampling
        for batch in config.batches
        for case in config.cases
    ]
    presets = [Case(name, kind="preset") for name in config.chosen_presets]
    return tasks + [
        Task(case, batch=batch, noise=True, device=config.device) for batch in config.batches for case in presets
    ]


def measure(config: Throughput) -> tuple[list[dict[str, Any]], list[str]]:
    """One record for each task and set of cores, and the tasks that there was no time for."""
    cores = ("one", "all") if config.cores == "both" and config.device == "cpu" else (config.cores,)
    tasks, records = tasks_of(config), []
    progress = report.Progress(len(cores) * len(tasks), config.budget)
    together = prepare_limit(config.budget) if config.device == "cuda" else None  # there they do not share cores
    for place in cores:
        members = {name: Member(name, place, config.device) for name in config.contenders}
        try:
            for task in tasks:
                title = (
                    f"{task.case.name}, {'noise' if task.noise else 'no noise'}, {place} core(s), batch {task.batch}"
                )
                if progress.leaves_out(title):
                    continue
                able = [m for name, m in members.items() if entries()[name].presets == (task.case.kind == "preset")]
                able = [m for m in able if entries()[m.name].noise or not task.noise]
                outcomes = compare(able, task, config.repeats, config.seconds, report.note, together)
                records.append(record_of(place, task, outcomes))
        finally:
            for member in members.values():
                member.close()
    return records, progress.left_out


def record_of(cores: str, task: Task, outcomes: list[Outcome]) -> dict[str, Any]:
    """All of a task, as JSON can hold it."""
    fastest = max((o for o in outcomes if o.runs and o.contender in PEERS), key=lambda o: o.rate.median, default=None)
    against = {"lenstronomy": times_as_fast(outcomes, "lenstronomy")}
    if task.case.kind == "preset":  # each engine to its own renderer
        against["renderer alone"] = {
            f"Simulator.batch, {engine}": found[f"Simulator.batch, {engine}"]
            for engine in ENGINES
            if f"Simulator.batch, {engine}" in (found := times_as_fast(outcomes, f"renderer alone, {engine}"))
        }
    if fastest is not None:
        against["fastest peer"] = times_as_fast(outcomes, fastest.contender)
    return {
        "cores": cores,
        "case": task.case.name,
        "preset": task.case.kind == "preset",
        "size": task.size,
        "pixel_scale": task.pixel_scale,
        "supersampling": task.supersampling,
        "batch": task.batch,
        "noise": task.noise,
        "recipe": task.recipe if task.noise else None,
        "psf_fwhm": task.psf_fwhm,
        "device": task.device,
        "judge": parity.judge(),
        "fastest_peer": None if fastest is None else fastest.contender,
        "outcomes": [o.as_dict() for o in outcomes],
        "times_as_fast_as": {k: {n: s.as_dict() for n, s in v.items()} for k, v in against.items()},
    }


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Throughput, args=argv, prog="python -m profiles.throughput")
    config = shortened(config) if config.quick else config
    out = report.where(config.out, "throughput")
    about = machine.describe()
    records, left_out = measure(config)
    settings = {"repeats": config.repeats, "seconds": config.seconds, "quick": config.quick, "left_out": left_out}
    content = {"machine": about, "settings": settings, "records": records}
    report.write(out, "throughput", content, throughput_text(content))
    draw_throughput(records, out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
