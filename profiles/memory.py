"""What rendering takes in memory: `python -m profiles.memory`. A fresh process for each engine, case and batch.

On a CPU the largest resident set of the process, and how much of it rendering added to what imports and the scene had
taken; on CUDA also the peak of torch's allocator (which does not see what other libraries allocate).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from lensgen.device import resolve_device
from lensgen.errors import ParameterError, lookup, require_whole
from profiles import machine, report
from profiles.cases import CASES, Task
from profiles.contenders import engines_on, entries
from profiles.machine import usable_cores
from profiles.plots import draw_bars
from profiles.team import Process, prepare_limit
from profiles.timing import Spread

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Measures the peak memory of rendering."""

    cases: tuple[str, ...] = ("sie", "25 points", "100 tnfw")
    """Kinds of lens."""
    engines: tuple[str, ...] = ()
    """Contenders; all lensgen engines and lenstronomy by default."""
    batches: tuple[int, ...] = (64, 1024)
    """Images rendered at a time."""
    size: int = 64
    """Pixels along an axis."""
    supersampling: int = 1
    """Rays a pixel along an axis."""
    noise: Literal["on", "off"] = "on"
    """With noise or without."""
    cores: Literal["one", "all"] = "one"
    """One core, pinned, or all that may be used."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where engines that can use a GPU compute."""
    repeats: int = 3
    """Processes for each engine, case and batch."""
    budget: float | None = None
    """What has not begun after so many seconds is left out."""
    out: Path | None = None
    """Results without suffix; profiles/results/memory by default."""
    quick: bool = False
    """One small case, once."""

    def __post_init__(self) -> None:
        for name in self.cases:
            lookup("case", name, CASES)
        for name in self.engines:
            if lookup("contender", name, entries()).presets:
                raise ParameterError(f"--engines {name!r} renders presets alone: name an engine or a peer.")
        for value in self.batches:
            require_whole("--batches", value, 1, 2**20)
        require_whole("--size", self.size, 1, 4096)
        require_whole("--supersampling", self.supersampling, 1, 64)
        require_whole("--repeats", self.repeats, 1, 100)
        resolve_device(self.device)


def once(name: str, task: Task, cores: list[int] | None, limit: float) -> dict[str, Any]:
    """One process: bytes before and after, or why it refused."""
    process = Process(name, cores)
    try:
        process.tell("memory", (task,))
        return process.answer(limit)
    except (RuntimeError, TimeoutError) as error:
        return {"refused": str(error)}
    finally:
        process.close()


def measure(config: Memory) -> tuple[list[dict[str, Any]], list[str]]:
    """One record for each engine, case and batch, and those that there was no time for."""
    default = (*engines_on(config.device), "lenstronomy")
    names, records = config.engines or default, []
    cores = usable_cores()[:1] if config.cores == "one" and config.device == "cpu" else None
    limit = prepare_limit(config.budget)
    progress = report.Progress(len(names) * len(config.cases) * len(config.batches), config.budget)
    for case in config.cases:
        for batch in config.batches:
            task = Task(
                CASES[case], config.size, supersampling=config.supersampling, batch=batch, noise=config.noise == "on",
                device=config.device,
            )  # fmt: skip
            for name in names:
                if progress.leaves_out(f"{case}, batch {batch}: {name}"):
                    continue
                answers = [once(name, task, cores, limit) for _ in range(config.repeats)]
                refused = next((a["refused"] for a in answers if "refused" in a), "")
                records.append(
                    {"case": case, "batch": batch, "contender": name, "refused": refused, "samples": answers}
                )
                if not refused:
                    records[-1] |= _summary(answers)
    return records, progress.left_out


def _summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    found = {
        "peak": Spread.of([a["after"]["peak"] for a in answers]).as_dict(),
        "added": Spread.of([max(0, a["after"]["peak"] - a["before"]["resident"]) for a in answers]).as_dict(),
    }
    if "cuda_peak" in answers[0]["after"]:
        found["cuda_peak"] = Spread.of([a["after"]["cuda_peak"] for a in answers]).as_dict()
    return found


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    settings = content["settings"]
    quantities = {"peak": "peak", "added": "added by rendering"}
    if settings["device"] == "cuda":
        quantities["cuda_peak"] = "peak on the GPU"
    rows = []
    for record in content["records"]:
        start = [record["case"], record["contender"], f"{record['batch']:,}"]
        cells = [
            record["refused"] if record["refused"] else report.number(record[name]["median"] / MIB)
            for name in quantities
        ]
        rows.append([*start, *cells])
    head = ["case", "contender", "batch", *(f"{title}, MiB" for title in quantities.values())]
    return "\n\n".join(
        [
            "# Memory",
            machine.one_line(content["machine"]),
            f"{settings['size']}x{settings['size']} pixels, {settings['supersampling']}^2 rays, noise "
            f"{settings['noise']}, {report.place(settings)}; median of {settings['repeats']} fresh processes. Added "
            "is the peak above what the process had before its first image, results included.",
            report.markdown(head, rows),
            *report.left_out(content),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Memory, args=argv, prog="python -m profiles.memory")
    if config.quick:
        config = dataclasses.replace(config, cases=config.cases[:1], batches=(4,), size=16, repeats=1)
    out = report.where(config.out, "memory")
    about = machine.describe()
    records, left_out = measure(config)
    kept = ("size", "supersampling", "noise", "cores", "device", "repeats", "quick")
    settings = {name: getattr(config, name) for name in kept} | {"left_out": left_out}
    content = {"machine": about, "settings": settings, "records": records}
    report.write(out, "memory", content, text_of(content))
    shown = [record for record in records if not record["refused"]]
    added = [record["added"] for record in shown]
    ends = np.array([[a["median"] - a["low"], a["high"] - a["median"]] for a in added]).T.reshape(2, -1) / MIB
    labels = [f"{r['contender']}, {r['case']}, {r['batch']}" for r in shown]
    middle = [a["median"] / MIB for a in added]
    draw_bars(labels, middle, ends, "memory that rendering adds", "MiB", out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
