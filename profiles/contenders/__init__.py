"""Everyone who is timed, one file each. A contender is built for one task and then renders it again and again."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass, field, replace

from lensgen.errors import lookup
from lensgen.render import ENGINES
from profiles.cases import Task
from profiles.contenders.contender import Contender, Refused

__all__ = ["Contender", "Entry", "Refused", "build", "device_of", "engines_on", "entries"]


@dataclass(frozen=True)
class Entry:
    """How a contender is reached.

    Args:
        module: where its class is, below profiles.contenders.
        kind: the class, called with a task and `options`.
        needs: the packages that must be installed.
        threads: it uses several cores by itself; others are run as one process a core when all cores are measured,
            which is the best that their users can do.
        noise, presets: whether it can add noise, and render lensgen's presets (then it renders nothing else).
        environment: set before its process starts.
        devices: that it renders on. Where a task is on another, it renders the first systems of it on the CPU.
    """

    module: str
    kind: str
    needs: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    threads: bool = False
    noise: bool = False
    presets: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cpu",)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


_ANYWHERE = ("cpu", "cuda")
PEERS = {
    "lensgen, compiled": Entry("lensgen_compiled", "CompiledFormulas", ("torch",), devices=_ANYWHERE),
    "lenstronomy": Entry("lenstronomy_images", "LenstronomyImages", ("lenstronomy",), noise=True),
    "caustics": Entry(
        "caustics_images", "CausticsEager", ("caustics",), environment={"CASKADE_BACKEND": "torch"}, devices=_ANYWHERE
    ),
    "caustics, compiled": Entry(
        "caustics_images", "CausticsCompiled", ("caustics",), environment={"CASKADE_BACKEND": "torch"},
        devices=_ANYWHERE,
    ),
    "caustics, JAX": Entry(
        "caustics_images", "CausticsJAX", ("caustics", "jax"), environment={"CASKADE_BACKEND": "jax"}, devices=_ANYWHERE
    ),
    "JAXtronomy": Entry("jaxtronomy_images", "JAXtronomyImages", ("jaxtronomy",), devices=_ANYWHERE),
}  # fmt: skip
_FEW = 64  # systems that a contender on the CPU renders where the others are on a GPU: more does not make it faster
_ONE_THREAD = {"torch"}  # engines that render on one thread whatever they are given


def entries() -> dict[str, Entry]:
    """Everyone by name: each engine that is registered with lensgen, then the peers."""
    found = {}
    for engine, about in ENGINES.items():
        options, threads, devices = {"engine": engine}, engine not in _ONE_THREAD, about.devices
        scenes = {"EngineImages": f"lensgen {engine}"}
        if devices == ("cuda",):
            scenes["ReplayedImages"] = f"lensgen {engine}, graph"
        for kind, name in scenes.items():
            found[name] = Entry("lensgen_images", kind, ("torch",), options, threads, noise=True, devices=devices)
        kinds = {"PresetBatches": "Simulator.batch", "PresetRenders": "renderer alone"}
        if "cuda" in devices:  # on a CPU a stream is Simulator.batch
            kinds["PresetStream"] = "LensStream"
        for kind, name in kinds.items():
            found[f"{name}, {engine}"] = Entry(
                "lensgen_presets", kind, ("torch",), options, threads, True, True, devices=devices
            )
    return found | PEERS


def device_of(name: str, device: str) -> str:
    """Where that contender renders a task that is on `device`."""
    devices = lookup("contender", name, entries()).devices
    return "cpu" if device not in devices and "cpu" in devices else device


def engines_on(device: str) -> list[str]:
    """The contenders that are an engine of lensgen which renders scenes on that device."""
    return [n for n, e in entries().items() if n.startswith("lensgen ") and not e.presets and device in e.devices]


def build(name: str, task: Task) -> Contender:
    """The contender of that name, ready to render.

    Raises:
        UnknownNameError: there is none. Refused: it cannot do the task, and says why.
    """
    entry = lookup("contender", name, entries())
    if entry.missing:
        raise Refused(f"{', '.join(entry.missing)} not installed")
    if entry.presets != (task.case.kind == "preset"):
        raise Refused("renders presets alone" if entry.presets else "does not know lensgen's presets")
    if task.noise and not entry.noise:
        raise Refused("has no noise")
    module = importlib.import_module(f"profiles.contenders.{entry.module}")
    device = device_of(name, task.device)
    if device == task.device:
        return getattr(module, entry.kind)(task, **entry.options)
    contender = getattr(module, entry.kind)(replace(task, device=device, first=_FEW), **entry.options)
    contender.notes = ", ".join(word for word in (contender.notes, f"on the {device.upper()}") if word)
    return contender


def environment_of(name: str, cores: int | None) -> dict[str, str]:
    """The environment that a contender's process needs; `cores` is how many it may use, None for no limit."""
    own = lookup("contender", name, entries()).environment
    if cores is None:
        return {**os.environ, **own}
    limits = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores)
    )
    return {**os.environ, **limits, **own}
