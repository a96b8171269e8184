"""Everyone who is timed, one file each. A contender is built for one task and then renders it again and again."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass, field

from lensgen.errors import lookup
from lensgen.render import ENGINES
from profiles.cases import Task
from profiles.contenders.contender import Contender, Refused

__all__ = ["Contender", "Entry", "Refused", "build", "entries"]


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
    """

    module: str
    kind: str
    needs: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    threads: bool = False
    noise: bool = False
    presets: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


PEERS = {
    "lensgen, compiled": Entry("lensgen_compiled", "CompiledFormulas", ("torch",)),
    "lenstronomy": Entry("lenstronomy_images", "LenstronomyImages", ("lenstronomy",), noise=True),
    "caustics": Entry("caustics_images", "CausticsEager", ("caustics",), environment={"CASKADE_BACKEND": "torch"}),
    "caustics, compiled": Entry(
        "caustics_images", "CausticsCompiled", ("caustics",), environment={"CASKADE_BACKEND": "torch"}
    ),
    "caustics, JAX": Entry(
        "caustics_images", "CausticsJAX", ("caustics", "jax"), environment={"CASKADE_BACKEND": "jax"}
    ),
    "JAXtronomy": Entry("jaxtronomy_images", "JAXtronomyImages", ("jaxtronomy",)),
}
_ONE_THREAD = {"torch"}  # engines that render on one thread whatever they are given


def entries() -> dict[str, Entry]:
    """Everyone by name: each engine that is registered with lensgen, then the peers."""
    found = {}
    for engine in ENGINES:
        options, threads = {"engine": engine}, engine not in _ONE_THREAD
        found[f"lensgen {engine}"] = Entry("lensgen_images", "EngineImages", ("torch",), options, threads, noise=True)
        for kind, name in (("PresetBatches", "Simulator.batch"), ("PresetRenders", "renderer alone")):
            found[f"{name}, {engine}"] = Entry("lensgen_presets", kind, ("torch",), options, threads, True, True)
    return found | PEERS


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
    return getattr(module, entry.kind)(task, **entry.options)


def environment_of(name: str, cores: int | None) -> dict[str, str]:
    """The environment that a contender's process needs; `cores` is how many it may use, None for no limit."""
    own = lookup("contender", name, entries()).environment
    if cores is None:
        return {**os.environ, **own}
    limits = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores)
    )
    return {**os.environ, **limits, **own}
