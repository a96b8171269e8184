"""The CPU engine's promises about bits, what it refuses and how it says so, and the package without numba."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch

from lensgen import Noise, Observation, Scene, Simulator, notice, render
from lensgen.draw import Systems, draw
from lensgen.errors import EngineError, ParameterError, UnknownNameError
from lensgen.mass import MASS_PROFILES, mass_profile
from lensgen.psf import PixelPSF
from lensgen.scene import Component
from lensgen_kernels import cpu
from tests.every_preset import EVERY_PRESET
from tests.kernels.scenes import hand_made, random_parameters, seen, slotted, with_value

SEEN = seen(20, 20, 0.15, 0.2)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def noisy_systems(preset: str, number: int) -> tuple[Systems, Observation, Noise]:
    simulator = Simulator(preset, seed=5, device="cpu").override({"grid.size": [9, 13]})
    made, index = simulator.preset, torch.arange(number) * 977
    systems = draw(made, simulator.random, index)
    return (
        systems,
        made.bands[0].observation,
        Noise(made.recipe, made.bands[0].detector, systems.exposure[0], simulator.random, index),
    )


def rendered(case, rows: torch.Tensor) -> torch.Tensor:
    systems, observation, noise = case
    own = Noise(noise.recipe, noise.detector, noise.exposure[rows], noise.random, noise.index[rows])
    return render(systems.scene.select(rows), observation, own, engine="cpu")


@pytest.mark.parametrize("preset", ["model_a", "model_b", pytest.param("deeplense_i_legacy", marks=pytest.mark.slow)])
def test_same_bits_however_batched(preset: str, poisoned) -> None:
    case = noisy_systems(preset, 500)
    every = torch.arange(500)
    whole = rendered(case, every)
    assert torch.equal(rendered(case, every.flip(0)), whole.flip(0))
    assert torch.equal(torch.cat([rendered(case, rows) for rows in every.split(7)]), whole)
    for i in range(0, 500, 41):
        assert torch.equal(rendered(case, torch.tensor([i]))[0], whole[i])


def test_same_bits_in_5000(poisoned) -> None:
    case = noisy_systems("model_a", 5000)
    whole = rendered(case, torch.arange(5000))
    for start in (0, 15, 2500, 4993):
        rows = torch.arange(start, start + 7)
        assert torch.equal(rendered(case, rows), whole[rows])


def test_same_bits_on_any_number_of_threads(threads, poisoned) -> None:
    case = noisy_systems("model_b", 200)
    threads(1)
    expected = rendered(case, torch.arange(200))
    for number in (2, 4, 3):
        threads(number)
        assert torch.equal(rendered(case, torch.arange(200)), expected)
        assert torch.get_num_threads() == number


def test_same_bits_beside_another_render(threads) -> None:
    """Other scenes and the same ones, at the same time; a torch render changes the number of threads meanwhile."""
    threads(2)
    case, other = noisy_systems("model_b", 100), noisy_systems("model_a", 300)
    expected, of_other = rendered(case, torch.arange(100)), rendered(other, torch.arange(300))
    wrong: list[str] = []

    def again(what, want) -> None:
        for _ in range(5):
            if not torch.equal(rendered(what, torch.arange(len(want))), want):
                wrong.append("differs")

    beside = [threading.Thread(target=again, args=args) for args in ((other, of_other), (case, expected))]
    for thread in beside:
        thread.start()
    again(case, expected)
    for thread in beside:
        thread.join()
    assert not wrong


class _Images(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield Simulator("model_a", seed=3, device="cpu", engine="cpu").override({"grid.size": 24}).batch(0, 40).image


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_same_bits_in_a_worker(start: str) -> None:
    expected = next(iter(_Images()))
    loader = torch.utils.data.DataLoader(_Images(), batch_size=None, num_workers=1, multiprocessing_context=start)
    assert torch.equal(next(iter(loader)), expected)


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_what_memory_held_changes_no_bit(preset: str, monkeypatch) -> None:
    case = noisy_systems(preset, 60)
    images = []
    for poison in (True, False, True):
        monkeypatch.setattr(cpu, "POISON", poison)
        images.append(rendered(case, torch.arange(60)))
    assert torch.equal(images[0], images[1]) and torch.equal(images[2], images[1])


# --- refusals


def leaf(scene: Scene) -> Scene:
    return with_value(scene, "mass", "theta_E", scene.mass[0].parameters["theta_E"].clone().requires_grad_())


def wide_psf(size: int, side: int = 70) -> Observation:
    return Observation(side, side, 0.05, 1, PixelPSF(torch.full((size, size), 1.0 / size**2)))


REFUSED = {
    "float64": (lambda: hand_made(dtype=torch.float64), SEEN, r"renders in torch.float32, not in torch.float64"),
    "gradients": (lambda: leaf(hand_made()), SEEN, r"gradients do not flow through it"),
    "a large PSF": (hand_made, wide_psf(131), r"at most 129x129 pixels, this one 131x131"),
}


@pytest.mark.parametrize("engine", ["cpu", "cpu_closed"])
@pytest.mark.parametrize("make, observation, reason", REFUSED.values(), ids=REFUSED)
def test_refused_by_name(make, observation, reason, engine) -> None:
    """The message names the engine, the reason and the fix; "auto" takes torch for the same scene."""
    scene = make()
    with pytest.raises(
        EngineError, match=rf"engine '{engine}' cannot do this: .*{reason}.*Fix: engine='auto', or 'torch'"
    ):
        render(scene, observation, engine=engine)
    assert torch.equal(render(scene, observation).detach(), render(scene, observation, engine="torch").detach())


def test_the_largest_psf_is_still_done(gate) -> None:
    for observation in (wide_psf(129), wide_psf(131, 20)):  # what reaches beyond a small image is cut off
        image, expected = (render(hand_made(), observation, engine=e) for e in ("cpu", "torch"))
        gate("cpu: optics (of peak)", (image - expected).abs().max() / expected.max(), 1e-5)


def test_gradients_that_are_not_wanted_do_not_matter() -> None:
    with torch.no_grad():
        assert torch.equal(render(leaf(hand_made()), SEEN, engine="cpu"), render(hand_made(), SEEN, engine="cpu"))


def test_derivatives_of_torch_func_are_refused_and_right_with_auto() -> None:
    scene = hand_made(1)
    theta_E = scene.mass[0].parameters["theta_E"]

    def flux(value: torch.Tensor, engine: str = "auto") -> torch.Tensor:
        return render(with_value(scene, "mass", "theta_E", value), SEEN, engine=engine).sum()

    one = torch.ones_like(theta_E)
    finite = float(flux(theta_E + 1e-2, "torch") - flux(theta_E - 1e-2, "torch")) / 2e-2
    with pytest.raises(EngineError, match="gradients do not flow"):
        torch.func.jvp(lambda v: flux(v, "cpu"), (theta_E,), (one,))
    along = torch.func.jvp(flux, (theta_E,), (one,))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(theta_E, one)
        with pytest.raises(EngineError, match="gradients do not flow"):
            flux(dual, "cpu")
        forward = torch.autograd.forward_ad.unpack_dual(flux(dual)).tangent
    backward = torch.func.grad(flux)(theta_E)
    (reverse,) = torch.autograd.grad(flux(leaf_of := theta_E.clone().requires_grad_()), leaf_of)
    for derivative in (along, forward, backward, reverse):
        assert float(derivative) == pytest.approx(finite, rel=2e-2)
        assert float(derivative) == pytest.approx(float(along), rel=1e-4)


def test_unknown_engines() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown engine 'cpo'. Did you mean 'cpu'"):
        render(hand_made(), SEEN, engine="cpo")
    with pytest.raises(EngineError, match=r"engine 'cpu' cannot do this: it renders in torch.float32"):
        Simulator("model_a", device="cpu", engine="cpu", dtype=torch.float64)


def test_auto_says_once_what_it_took_and_why(monkeypatch, capfd) -> None:
    monkeypatch.setattr(notice, "_said", set())
    for _ in range(3):
        render(hand_made(), SEEN)
        render(hand_made(dtype=torch.float64), SEEN)
        render(leaf(hand_made()), SEEN)
        render(hand_made(), SEEN, engine="torch")  # named: nothing to say
    said = [line for line in capfd.readouterr().err.splitlines() if "engine '" in line]
    assert len(said) == 3
    assert said[0].startswith("lensgen: engine 'cpu' (") and "not '" not in said[0]
    assert said[1].startswith("lensgen: engine 'torch' (") and "not 'cpu': it renders in torch.float32" in said[1]
    assert "not 'cpu': gradients do not flow through it" in said[2]


# --- what is not a number


def refused(scene: Scene, engine: str = "cpu") -> bool:
    try:
        render(scene, SEEN, engine=engine)
    except ParameterError as error:
        return "image 1 of the batch is not finite" in str(error)
    return False


def let_through(scene: Scene, where: str) -> list[str]:
    """Values of a parameter that leave as an image: NaN, or an infinity that torch refuses."""
    found = []
    for parameter, value in getattr(scene, where)[0].parameters.items():
        for bad in (NAN, INF, -INF):
            changed = with_value(scene, where, parameter, torch.tensor([float(value[0]), bad, float(value[2])]))
            if not refused(changed) and (bad != bad or refused(changed, "torch")):
                found.append(f"{parameter} = {bad}")
    return found


def lens_of(name: str) -> Scene:
    values = {k: v.float() for k, v in random_parameters(mass_profile(name), (3,), 2, 0.3).items()}
    return Scene((Component("lens", mass_profile(name), values, None, mass_profile(name).statics),), hand_made().source)


@pytest.mark.parametrize("name", [n if n == "sis" else pytest.param(n, marks=pytest.mark.slow) for n in MASS_PROFILES])
def test_lenses_that_are_not_numbers_never_leave(name: str) -> None:
    assert not let_through(lens_of(name), "mass")


def test_sources_and_scales_that_are_not_numbers_never_leave() -> None:
    """A source at infinity is missing: it is dark, with torch as here."""
    scene = hand_made()
    assert not let_through(scene, "source")
    assert refused(Scene(scene.mass, scene.source, (), torch.tensor([1.0, NAN, 1.0])))


@pytest.mark.parametrize("name", ["point", pytest.param("tnfw", marks=pytest.mark.slow)])
def test_slots_that_are_not_numbers_never_leave_where_they_are_used(name: str) -> None:
    profile = mass_profile(name)
    left = []
    for parameter in profile.parameters:
        values = {k: v.float() for k, v in random_parameters(profile, (3, 2), 2).items()}
        values[parameter.name][1, 1] = NAN
        used, unused = (
            Scene((*hand_made().mass, slotted(profile, values, torch.tensor([2, count, 0]))), hand_made().source)
            for count in (2, 1)
        )
        render(unused, SEEN, engine="cpu")  # nobody reads it
        if not refused(used):
            left.append(parameter.name)
    assert not left


# --- without numba


def in_a_process(program: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def test_without_numba_everything_runs_on_torch() -> None:
    done = in_a_process("""
        import sys
        class Hidden:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name.split(".")[0] in ("numba", "llvmlite"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        import importlib.util
        true_find = importlib.util.find_spec
        importlib.util.find_spec = lambda n, p=None: None if n.split(".")[0] == "numba" else true_find(n, p)
        sys.meta_path.insert(0, Hidden)
        import lensgen, torch
        from lensgen.errors import EngineError
        small = lensgen.Simulator("model_a", device="cpu").override({"grid.size": 16})
        batch = small.batch(0, 4)
        plain = lensgen.Simulator(small.preset, device="cpu", engine="torch").batch(0, 4)
        assert torch.equal(batch.image, plain.image)
        try:
            lensgen.Simulator("model_a", device="cpu", engine="cpu")
        except EngineError as error:
            print(error)
    """)
    assert done.returncode == 0, done.stderr
    assert "engine 'cpu' cannot do this: numba is not installed (pip install numba)" in done.stdout
    assert "engine 'torch'" in done.stderr and "numba is not installed" in done.stderr


def test_importing_lensgen_loads_no_compiler() -> None:
    done = in_a_process("""
        import sys, lensgen
        lensgen.Simulator("model_a", device="cpu")
        print([m for m in ("numba", "llvmlite", "lensgen_kernels") if m in sys.modules])
    """)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
