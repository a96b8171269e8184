"""The steps of the GPU report: what is run, for how long, and what is read of it.

Engine "cuda" is named wherever a script takes one: without CuPy it fails by name, and torch does not do its work
unseen. With `quick` the same scripts run on a CPU at tiny sizes, to show that they run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from profiles import gpu_results
from profiles.machine import ROOT
from profiles.steps import Step

RESERVED = 0.85  # of its limit that a script is told to use: it ends by itself, with what it has
# that the steps should take, on a GPU and quick, where it is mostly imports
SECONDS = {
    "card": (8, 6), "tests": (85, 10), "engines": (95, 20), "overlap": (40, 15), "mae": (45, 20), "draws": (40, 8),
    "memcheck": (30, 6), "racecheck": (30, 6), "memcheck_graph": (20, 6), "throughput": (35, 12), "registers": (15, 6),
    "scaling": (25, 12), "memory": (20, 8),
}  # fmt: skip
_ENGINE = ("--engine", "cuda")
_VIT_S = (
    "--vit.patch-size", "4", "--vit.depth", "12", "--vit.width", "384", "--vit.heads", "6",
    "--decoder.depth", "4", "--decoder.width", "192", "--decoder.heads", "6",
)  # fmt: skip
_TINY_VIT = (
    "--vit.patch-size", "16", "--vit.depth", "1", "--vit.width", "32", "--vit.heads", "2",
    "--decoder.depth", "1", "--decoder.width", "16", "--decoder.heads", "2",
)  # fmt: skip


def not_installed(*packages: str) -> str:
    """Which of these are not there, or ""."""
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


def sanitizer() -> str | None:
    """compute-sanitizer, on PATH or in the CUDA toolkit."""
    if (found := shutil.which("compute-sanitizer")) is not None:
        return found
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        for below in ("bin", "compute-sanitizer"):
            if home and (tool := Path(home) / below / "compute-sanitizer").is_file():
                return str(tool)
    return None


def gpu_tests() -> list[str]:
    """The files that hold tests for a GPU: to collect all others would take longer than to run these."""
    own = Path("tests/profiles")  # which mention the mark and need no GPU
    files = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    return [str(f) for f in files if own not in f.parents and "mark.gpu" in (ROOT / f).read_text()]


def _script(name: str, folder: Path, step: str, seconds: float, *arguments: str) -> list[str]:
    """A script of profiles with a budget, and its results in the folder."""
    budget = () if name == "overlap" else ("--budget", f"{RESERVED * seconds:.1f}")
    return ["-m", f"profiles.{name}", *arguments, *budget, "--out", str(folder / step)]


def _step(name: str, title: str, quick: bool, *more: Any, **options: Any) -> Step:
    return Step(name, title, SECONDS[name][quick], *more, **options)


def _card(folder: Path, quick: bool) -> Step:
    arguments = ["-m", "profiles.card", "--out", str(folder / "card.json")]
    return _step("card", "the card", quick, lambda _: arguments, gpu_results.script("card"))


def _tests(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        several = ["-n", str(min(4, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
        junit = f"--junitxml={folder / 'tests.xml'}"
        return ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *several, junit, *gpu_tests()]

    return _step("tests", "GPU tests", quick, command, gpu_results.tests, not_installed("pytest", "hypothesis"))


def _engines(folder: Path, quick: bool) -> Step:
    tiny = (
        "--device", "cpu", "--cases", "sie", "--against", "sie", "--batches", "4", "2", "--size", "16",
        "--repeats", "2", "--seconds", "0.02",
        "--contenders", "lensgen torch", "lensgen cpu", "lenstronomy", "caustics",
    )  # fmt: skip
    arguments = ("-m", "profiles.engines", *(tiny if quick else ()), "--wait", "--out", str(folder / "engines"))
    return _step(
        "engines", "all engines and peers", quick, lambda _: arguments, gpu_results.script("engines"), early=True
    )


def _overlap(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        full = (
            "--device", "cuda", "--batch", "512", "--stored", "4", "--steps", "15", "--warm-up", "5", "--repeats", "3",
            *_ENGINE, *_VIT_S,
        )  # fmt: skip
        return _script("overlap", folder, "overlap", seconds, *(("--quick",) if quick else full))

    missing = not_installed("timm", "lightly", "lightning", "h5py")
    return _step("overlap", "simulator and training", quick, command, gpu_results.script("overlap"), missing)


def _mae(folder: Path, quick: bool) -> Step:
    run = str(folder / "mae_run")
    tiny = ("mae_cpu", "--minutes", "None", "--accelerator", "cpu", "--workers", "0", "--batch-size", "8", *_TINY_VIT)
    steps, images = ("6", "20") if quick else ("200", "500")
    arguments = (
        "-m", "trainers.mae", "--stream", "--config", *(tiny if quick else ("mae_gpu",)), "--steps", steps,
        "--validate-every", steps, "--checkpoint-every", steps, "--log-every", "2" if quick else "20",
        "--validation.fit", images, "--validation.score", images, "--out", run,
    )  # fmt: skip
    missing = not_installed("timm", "lightly", "lightning", "tensorboard")
    return _step("mae", "masked autoencoder", quick, lambda _: arguments, gpu_results.mae, missing)


def _draws(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        tiny = ("--device", "cpu", "--engine", "torch", "--numbers", "1e5", "--few", "32", "--bulk")
        return _script("draws", folder, "draws", seconds, *(tiny if quick else _ENGINE))

    return _step("draws", "drawn numbers, bit for bit", quick, command, gpu_results.script("draws"))


def _checker(tool: str, folder: Path, quick: bool, graph: bool = False) -> Step:
    """With every tensor in memory of its own, so that its bounds are seen; or a stream alone with torch's cache, which
    it needs to record a CUDA graph."""
    name, title, program = tool, f"compute-sanitizer, {tool}", sanitizer()
    if graph:
        name, title = f"{tool}_graph", f"{title}, CUDA graph"
    caching = "PYTORCH_NO_CUDA_MEMORY_CACHING"
    checked = ("env", *(("-u", caching) if graph else (f"{caching}=1",)), program or "", "--tool", tool,
               "--error-exitcode", "86", "--report-api-errors", "no", "--print-limit", "20")  # fmt: skip

    def command(seconds: float) -> Sequence[str]:
        budget = ("--budget", f"{0.5 * seconds:.1f}")  # importing takes long under the tool, and so may the last part
        script = (sys.executable, "-m", "profiles.small_render", *budget)
        what = ("--parts", "stream", "--presets", "model_a") if graph else ()
        if quick:
            tiny = ("--device", "cpu", "--engine", "torch", "--images", "2")
            return [*script, *tiny, *(what or ("--presets", "model_a"))]
        return [*checked, *script, *_ENGINE, *what]

    missing = "" if quick or program else "compute-sanitizer"
    return _step(name, title, quick, command, gpu_results.checker(name), missing, python=False)


def _registers(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        tiny = ("--presets", "model_a", "--arch", "sm_90") if quick else ()
        return _script("registers", folder, "registers", seconds, *tiny)

    return _step("registers", "registers of kernels", quick, command, gpu_results.script("registers"))


def _presets(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        tiny = ("--quick", "--engines", "Simulator.batch, torch", "renderer alone, torch")
        full = (
            "--device", "cuda", "--batches", "256", "2048", "--repeats", "3", "--seconds", "0.15", "--engines",
            *gpu_results.ON_PRESETS,
        )  # fmt: skip
        return _script("throughput", folder, "throughput", seconds, "--cases", *(tiny if quick else full))

    return _step("throughput", "presets, from index to pixels", quick, command, gpu_results.script("throughput"))


def _scaling(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        tiny = ("--quick", "--engines", "lensgen torch", "--axes", "pixels", "tnfw")
        full = (
            "--device", "cuda", "--repeats", "3", "--seconds", "0.05", "--batch", "2048", "--engines",
            *gpu_results.there("lensgen cuda, graph", "lensgen torch"), "--sizes", "16", "32", "64", "128", "256",
            "--counts", "1", "10", "100", "500", "--supersampling", "1", "2", "4",
            "--batches", "16", "64", "256", "1024", "4096", "16384",
        )  # fmt: skip
        return _script("scaling", folder, "scaling", seconds, *(tiny if quick else full))

    return _step("scaling", "how the cost grows", quick, command, gpu_results.script("scaling"))


def _memory(folder: Path, quick: bool) -> Step:
    def command(seconds: float) -> Sequence[str]:
        tiny = ("--quick", "--engines", "lensgen torch")
        full = (
            "--device", "cuda", "--repeats", "1", "--batches", "2048", "--cases", "sie", "100 tnfw", "--engines",
            *gpu_results.there("lensgen cuda", "lensgen torch"),
        )  # fmt: skip
        return _script("memory", folder, "memory", seconds, *(tiny if quick else full))

    return _step("memory", "memory", quick, command, gpu_results.script("memory"))


def steps_of(folder: Path, quick: bool) -> list[Step]:
    """All steps, what matters most first: who comes late may find no time left. They write into the folder."""
    return [
        _card(folder, quick),
        _tests(folder, quick),
        _engines(folder, quick),
        _overlap(folder, quick),
        _mae(folder, quick),
        _draws(folder, quick),
        _checker("memcheck", folder, quick),
        _checker("racecheck", folder, quick),
        _checker("memcheck", folder, quick, graph=True),
        _presets(folder, quick),
        _registers(folder, quick),
        _scaling(folder, quick),
        _memory(folder, quick),
    ]
