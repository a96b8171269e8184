"""Who cannot do something says so and is skipped."""

from __future__ import annotations

import numpy as np
import pytest

from lensgen.errors import EngineError, UnknownNameError
from lensgen.render import ENGINES
from profiles import contenders, measure, parity
from profiles.cases import CASES, Case, Task
from profiles.contenders import Entry, Refused, build, entries, environment_of
from profiles.contenders.lensgen_compiled import CompiledFormulas

SMALL = Task(CASES["sie"], size=16, batch=2)


def test_every_engine_and_peer_is_there():
    names = entries()
    for engine in ENGINES:
        assert {f"lensgen {engine}", f"Simulator.batch, {engine}", f"renderer alone, {engine}"} <= set(names)
    assert {"lenstronomy", "caustics", "caustics, compiled", "caustics, JAX", "JAXtronomy"} <= set(names)


def test_unknown_names_and_packages_that_are_missing(monkeypatch):
    with pytest.raises(UnknownNameError, match="Did you mean 'lenstronomy'"):
        build("lenstronom", SMALL)
    monkeypatch.setitem(contenders.PEERS, "ghost", Entry("ghost", "Ghost", ("no_such_package",)))
    with pytest.raises(Refused, match="no_such_package not installed"):
        build("ghost", SMALL)


def test_presets_and_cases_do_not_mix():
    with pytest.raises(Refused, match="presets alone"):
        build("Simulator.batch, torch", SMALL)
    with pytest.raises(Refused, match="does not know"):
        build("lenstronomy", Task(Case("model_a", kind="preset")))
    with pytest.raises(Refused, match="no noise"):
        build("lensgen, compiled", Task(CASES["sie"], noise=True))


def test_an_engine_error_is_a_refusal(monkeypatch):
    def refuse(*arguments):
        raise EngineError("engine 'torch' has no such profile")

    images = build("lensgen torch", SMALL)
    monkeypatch.setattr("lensgen.torch_engine.render", refuse)
    with pytest.raises(Refused, match="no such profile"):
        images.render()


def test_one_core_limits_every_thread_pool():
    limited = environment_of("caustics, JAX", 1)
    assert limited["CASKADE_BACKEND"] == "jax"
    assert {limited[n] for n in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"1"}


def test_compiled_formulas_are_the_reference(monkeypatch):
    """Without the compiler, which takes a quarter of a minute."""
    monkeypatch.setattr("torch.compile", lambda function, **options: function)
    for name in ("epl", "25 points"):
        task = Task(CASES[name], size=24, batch=2, supersampling=2)
        images = CompiledFormulas(task).check_images()
        assert parity.deviation(images, parity.reference(task, 2), task) < 1e-4


class Stranger:
    """A member that renders something else."""

    name, placement = "stranger", [None]

    def prepare(self, task):
        return {"images": np.zeros((2, 16, 16)), "warm_up": 0.0, "dtype": "float32", "notes": "", "device": "cpu"}

    def measure(self, seconds):
        raise AssertionError("it must not be timed")


class Absent(Stranger):
    name = "absent"

    def prepare(self, task):
        return {"refused": "is not installed"}


def test_nobody_is_timed_on_another_task():
    outcomes = measure.compare([Stranger(), Absent()], SMALL, rounds=2, seconds=0.0, say=lambda what: None)
    assert outcomes[0].refused.startswith("renders something else: ")
    assert outcomes[1].refused == "is not installed"
    assert not any(outcome.runs for outcome in outcomes)
    assert measure.times_as_fast(outcomes, "stranger") == {}
