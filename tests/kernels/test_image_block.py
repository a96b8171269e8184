"""The kernel that renders on a GPU, in its emulation: order of threads, barriers, memory, noise; its machine code."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import lensgen
import lensgen_kernels
from lensgen import Noise, Scene, Simulator, checks, cuda_engine, load_preset, render
from lensgen.draw import draw
from lensgen.errors import EngineError, ParameterError
from lensgen.mass import mass_profile
from lensgen.psf import PixelPSF
from lensgen.rng import RandomSource
from lensgen_kernels import block_layout, nvrtc
from lensgen_kernels.body import Body
from lensgen_kernels.image_block import image_block
from tests.kernels import scenes
from tests.kernels.emulated_cuda import FACTS, Emulator
from tests.kernels.emulation import needs_compiler
from tests.kernels.scenes import hand_made, seen, slotted, with_value

needs_nvrtc = pytest.mark.skipif(nvrtc.available() is not None, reason=f"no CUDA compiler: {nvrtc.available()}")


def noisy(preset: str, number: int = 6, size: int | list[int] = 24, seed: int = 5) -> tuple:
    """Scene, observation, noise and choice of PSF of a preset's first systems."""
    made = load_preset(preset).override({"grid.size": size})
    index = torch.arange(number) * 977
    systems, band, random = draw(made, RandomSource(seed), index), made.bands[0], RandomSource(seed)
    noise = Noise(made.recipe, band.detector, systems.exposure[0], random, index)
    return systems.scene, band.observation, noise, systems.psf_choice[0]


def image(case: tuple) -> torch.Tensor:
    scene, observation, noise, choice = case
    return render(scene, observation, noise, "cuda", choice)


# --- the order of threads


@needs_compiler
@pytest.mark.parametrize(
    "preset", ["model_b", "hst", *(pytest.param(p, marks=pytest.mark.slow) for p in ("model_a", "model_a_physical"))]
)
def test_the_order_of_threads_and_blocks_is_nothing_to_an_image(preset: str, emulator: Emulator) -> None:
    case = noisy(preset)
    forwards = image(case)
    emulator.backwards = True
    assert torch.equal(image(case), forwards)
    emulator.checked = False
    assert torch.equal(image(case), forwards)


def crowded(number: int = 150, size: tuple[int, int] = (20, 36)) -> tuple:
    """A far field, tables (one of a halo with an edge, which is refused), sums, a filter with a second buffer."""
    values = scenes.random_parameters(mass_profile("tnfw"), (3, number), 3)
    values["alpha_Rs"] = torch.full((3, number), 1e-3)
    values["Rs"][:, 0] = 1e4
    mass = slotted(mass_profile("tnfw"), values, torch.tensor([number, 7, 0]))
    scene = Scene((*hand_made(3).mass, mass), hand_made(3).source).to(dtype=torch.float32)
    return scene, seen(*size, 0.15, 0.4), None, None


def few_points() -> tuple:
    """Slots without tables, and a PSF that is no filter of rows and columns."""
    values = scenes.random_parameters(mass_profile("point"), (2, 5), 3)
    mass = slotted(mass_profile("point"), values, torch.tensor([5, 3]))
    scene = Scene((*hand_made(2).mass, mass), hand_made(2).source).to(dtype=torch.float32)
    psf = PixelPSF(torch.full((3, 3), 1 / 9.0, dtype=torch.float64))
    return scene, scenes.replace(seen(9, 9), psf=psf), None, None


BARRIER = "LG_BARRIER();"
HAND_WRITTEN = [Path(lensgen_kernels.__file__).parent / file for file in ("lenses.h", "optics.h", "image.cu")]
BARRIERS = sum(file.read_text().count(BARRIER) for file in HAND_WRITTEN)
# The one after a band whose interpolated sums are to be made anew: others stand in for it, unless a batch's tables are
# smaller than these sums, which no small image here has.
WIDE = 11


def without_barrier(number: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        head, *rest = text.split(BARRIER)
        assert len(rest) == BARRIERS
        return BARRIER.join([head, *rest[:number]]) + ";" + BARRIER.join(rest[number:])

    return change


def everything(emulator: Emulator) -> None:
    """Images in which every barrier keeps something apart."""
    image(crowded())
    image(few_points())
    image((hand_made(2), seen(9, 9), None, None))
    emulator.facts = scenes.replace(emulator.facts, shared=12 * 1024)  # several bands, and images one after the other
    emulator.blocks = 1
    image(crowded(size=(40, 72)))
    image(noisy("model_b", 3))


@needs_compiler
@pytest.mark.parametrize(
    "number", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, BARRIERS) if k != WIDE)]
)
def test_a_barrier_that_is_missing_is_found(number: int, emulator: Emulator) -> None:
    """The emulation would let a race pass otherwise: it runs one thread after the other."""
    emulator.change = without_barrier(number)
    with pytest.raises(AssertionError, match=r"barrier|written|threads write"):
        everything(emulator)


@needs_compiler
def test_with_all_barriers_nothing_is_found(emulator: Emulator) -> None:
    everything(emulator)


@needs_compiler
def test_numbers_that_nobody_wrote_are_found(emulator: Emulator) -> None:
    emulator.change = lambda text: text.replace("        lg_stage(in, image, once);\n", "")
    with pytest.raises(AssertionError, match="read and never written"):
        image(crowded())


# --- memory


@needs_compiler
@pytest.mark.parametrize("preset", ["model_b", pytest.param("hst", marks=pytest.mark.slow)])
def test_cards_with_less_shared_memory_give_the_same(preset: str, emulator: Emulator) -> None:
    """What does not fit goes to the device's memory, of which blocks that take several images have one part each."""
    case = noisy(preset, number=7, size=64)
    whole = image(case)
    for card, blocks in (("A100", 1), ("RTX 4090", 2), ("RTX 4090", 100)):
        emulator.facts, emulator.blocks = FACTS[card], blocks
        assert float((image(case) - whole).abs().max() / whole.abs().max()) < 1e-6


@pytest.mark.parametrize("card", FACTS)
@pytest.mark.parametrize("preset", lensgen.presets())
def test_every_preset_fits_every_card(preset: str, card: str, emulator: Emulator) -> None:
    emulator.facts = FACTS[card]
    scene, observation, noise, _ = noisy(preset, 1, load_preset(preset).image_shape[1:])
    layout = image_block(*cuda_engine.program_of(scene, observation, noise, True)).layout
    assert 0 < layout.shared <= FACTS[card].shared
    inside = [place for place in layout.places.values() if place >= 0]
    assert max(inside) <= layout.shared and all(place % 16 == 0 for place in inside)


def test_what_does_not_fit_at_all_is_said(emulator: Emulator) -> None:
    emulator.facts = scenes.replace(FACTS["H100"], shared=2048)
    assert "shared memory" in str(cuda_engine.refusal(*crowded()[:3]))


@needs_compiler
def test_more_slots_than_one_batch_holds(emulator: Emulator, gate) -> None:
    """Of points, whose batches are the largest, and of lenses that tables and far field serve."""
    for name, number in (("point", 700), ("tnfw", 150)):
        values = scenes.random_parameters(mass_profile(name), (2, number), 3)
        values |= {k: torch.full((2, number), 2e-3).double() for k in ("theta_E", "alpha_Rs") if k in values}
        mass = slotted(mass_profile(name), values, torch.tensor([number, number // 2]))
        scene = Scene((*hand_made(2).mass, mass), hand_made(2).source)
        gate(f"cuda: {number} {name} (of peak)", scenes.off_peak(scene, seen(20, 36, 0.15), "cuda"), 1e-4)


def test_both_engines_have_the_same_far_fields(emulator: Emulator) -> None:
    """Also of lenses that are too cheap for a table: 500 solitons."""
    scene, observation, noise, _ = noisy("deeplense_iv_legacy_macro", 1)
    program, geometry = cuda_engine.program_of(scene, observation, noise, True)
    slotted_lenses = [c.profile.name for c in scene.mass if c.count is not None]
    far = [slotted_lenses[k] for k in Body(program).far]
    assert "soliton" in far and "tnfw" in far
    assert image_block(program, geometry).text.count("far = 1 }") == len(far)


# --- what is written


@needs_compiler
@pytest.mark.parametrize("recipe", ["none", "lenstronomy", "ccd", "deeplense_i"])
def test_noise_is_that_of_the_cpu_engine(recipe: str, emulator: Emulator) -> None:
    """Counts may differ by one where the mean is a hair's breadth from the next: in few pixels."""
    simulator = Simulator("model_b", seed=3, device="cpu").override({"grid.size": 21, "noise.recipe": recipe})
    ours, theirs = (
        Simulator(simulator.preset, seed=3, device="cpu", engine=e).batch(2**40, 5) for e in ("cuda", "cpu")
    )
    peak = theirs.image.flatten(1).amax(1).view(-1, 1, 1, 1)
    off = (ours.image - theirs.image).abs() / peak
    assert float((off > 1e-5).float().mean()) < 2e-3
    assert float(off.median()) < 1e-6


@needs_compiler
def test_an_image_that_is_not_finite_is_named(emulator: Emulator) -> None:
    bad = torch.tensor([1.0, float("nan"), 1.0])
    with pytest.raises(ParameterError, match="image 1 of the batch is not finite"):
        render(with_value(hand_made(3), "mass", "theta_E", bad), seen(8, 8), engine="cuda")


@needs_compiler
@pytest.mark.parametrize("size", [[1, 1], [7, 3], [8, 17], [33, 65]])
def test_same_bits_however_batched(size: list[int], emulator: Emulator) -> None:
    scene, observation, noise, choice = noisy("model_b", 5, size)
    whole = image((scene, observation, noise, choice))
    rows = torch.tensor([4, 0, 0, 2])
    few = Noise(noise.recipe, noise.detector, noise.exposure[rows], noise.random, noise.index[rows])
    assert torch.equal(image((scene.select(rows), observation, few, choice[rows])), whole[rows])


@needs_compiler
def test_counts_beyond_the_slots_read_nothing_outside(emulator: Emulator) -> None:
    """A GPU cannot look at counts before it reads: it stops at the last slot, and says so afterwards."""
    scene, observation, *_ = crowded(130)
    few = scene.mass[1]
    full, more = (
        Scene((scene.mass[0], scenes.replace(few, count=torch.tensor(count))), scene.source)
        for count in ([130, 130, 0], [130, 5000, 0])
    )
    expected = render(full, observation, engine="cuda")
    with pytest.raises(ParameterError, match=r"count = 5000 is outside \[0, 130\]"):
        render(more, observation, engine="cuda")
    with checks.postponed():
        assert torch.equal(render(more, observation, engine="cuda"), expected)


@needs_compiler
def test_tensors_elsewhere_are_refused(emulator: Emulator) -> None:
    """A kernel would read at their address."""
    scene, observation, noise, _ = noisy("model_b", 2)
    elsewhere = Noise(noise.recipe, noise.detector, noise.exposure, noise.random, noise.index)
    object.__setattr__(elsewhere, "index", noise.index.to("meta"))
    with pytest.raises(ParameterError, match=r"the scene is on cpu, and a tensor .* on meta"):
        render(scene, observation, elsewhere, engine="cuda")


# --- machine code


@lru_cache(maxsize=64)
def _block(preset: str, card: str, rays: int):
    scene, observation, noise, _ = noisy(preset, 1, list(load_preset(preset).image_shape[1:]))
    program, geometry = cuda_engine.program_of(scene, observation, noise, True)
    return image_block(program, geometry, rays)


@needs_nvrtc
@pytest.mark.parametrize("card", ["H100", pytest.param("A100", marks=pytest.mark.slow)])
@pytest.mark.parametrize("preset", lensgen.presets())
def test_every_preset_compiles_without_spills(preset: str, card: str, emulator: Emulator) -> None:
    """At the size that it is made in; at most 64 registers, so that a multiprocessor runs 1,024 threads."""
    emulator.facts = FACTS[card]
    for rays in cuda_engine.RAYS:
        usage = nvrtc.compiled(_block(preset, card, rays).text, FACTS[card].arch).usage["lg_render"]
        assert usage.registers <= 64
        if usage.spill_stores == 0:
            break
    assert usage.spill_stores == usage.spill_loads == 0
    assert usage.shared == 0  # all of it is asked for at the launch


def test_a_formula_that_cannot_be_translated_is_refused_by_name(emulator: Emulator) -> None:
    def strange(x, y, theta_E, center_x, center_y):
        return x if x > 0.0 else y, y

    profile = scenes.replace(mass_profile("sis"), deflection=strange)
    mass = scenes.replace(hand_made(2).mass[0], profile=profile)
    with pytest.raises(EngineError, match="cannot be translated"):
        render(Scene((mass,), hand_made(2).source), seen(8, 8), engine="cuda")


def test_more_shared_memory_makes_fewer_tables(emulator: Emulator) -> None:
    slots = [block_layout.Slots(once=8, most=800, tabulated=True, far=True)]
    program, _ = cuda_engine.program_of(hand_made(1), seen(8, 8), None, True)
    bands = []
    for card in ("RTX 4090", "A100", "H100"):
        geometry = block_layout.Geometry(64, 64, 1, (800,), (), FACTS[card].shared)
        bands.append(block_layout.layout(program, geometry, 20, slots).band)
    assert bands == sorted(bands) and bands[-1] > bands[0]
