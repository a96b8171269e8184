"""Interpolated cutouts against lenstronomy's INTERPOL, in every engine; what lies outside of them is exactly dark."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from torch import Tensor

from lensgen import Component, Observation, Scene, raytrace, render
from lensgen.errors import EngineError, ParameterError
from lensgen.fmath import Stack
from lensgen.light import interpol
from lensgen.mass import mass_profile
from lensgen.psf import GaussianPSF
from lensgen_kernels import cpu
from tests.kernels.scenes import seen
from tests.mass import cases
from tests.mass.test_against_lenstronomy import DTYPES

PROFILE = interpol.PROFILE
IMAGES = cases.arrays(PROFILE)["images"]  # three of 5 x 7 pixels
FLOAT64 = torch.float64
X, Y = cases.scattered(3000)
SIS = {"theta_E": 1.1, "center_x": 0.013, "center_y": -0.021}
SHEAR = {"gamma1": 0.05, "gamma2": -0.03}


def light(batch: int, images: Tensor = IMAGES, name: str = "source", **values) -> Component:
    given = {"amp": 2.0, "scale": 0.3, "phi_G": 0.7, "center_x": 0.11, "center_y": -0.23} | values
    return Component.make(name, PROFILE, given, batch, arrays={"images": images})


def theirs(which: int, images: Tensor = IMAGES, **values) -> dict:
    """What lenstronomy takes: an image in flux per arcsec^2."""
    return {"image": images[which].double().numpy() / values["scale"] ** 2, **values}


CUTOUTS = st.fixed_dictionaries(
    {
        "amp": st.floats(0.1, 1e4),
        "scale": st.floats(0.02, 1.5),
        "phi_G": st.floats(-math.pi, math.pi),
        "center_x": st.floats(-1.0, 1.0),
        "center_y": st.floats(-1.0, 1.0),
    }
)


@DTYPES
@given(kwargs=CUTOUTS, which=st.integers(0, 2))
def test_against_lenstronomy(gate, dtype, kwargs, which):
    kwargs = {k: float(torch.tensor(v).float()) for k, v in kwargs.items()}
    x, y = X.float().double(), Y.float().double()
    reference = torch.as_tensor(
        LightModel(["INTERPOL"]).surface_brightness(x.numpy(), y.numpy(), [theirs(which, **kwargs)])
    )
    values = {k: torch.tensor([v], dtype=dtype) for k, v in kwargs.items()}
    source = light(1, **values, which=torch.tensor([which], dtype=dtype))
    ours = raytrace.surface_brightness((source,), x.to(dtype), y.to(dtype))[0]
    assert ours.dtype == dtype
    peak = kwargs["amp"] / kwargs["scale"] ** 2 * IMAGES[which].max()
    gate(
        f"cutout {dtype} (of peak)", (ours.double() - reference).abs().max() / peak, 1e-12 if dtype == FLOAT64 else 1e-5
    )


def lensed_by_lenstronomy(sources: list[dict], observation: Observation) -> Tensor:
    """`[B, H, W]`: an isothermal sphere and shear before each source."""
    lens = LensModel(["SIS", "SHEAR"])
    beta = lens.ray_shooting(*(t.numpy() for t in observation.rays()), [SIS, SHEAR | {"ra_0": 0, "dec_0": 0}])
    rows = [LightModel(["INTERPOL"]).surface_brightness(*beta, [source]) for source in sources]
    image = torch.as_tensor(np.stack(rows)) * observation.pixel_scale**2
    return image.unflatten(1, (observation.height, observation.width))


def lensed(sources: Component, dtype: torch.dtype = FLOAT64) -> Scene:
    batch = next(iter(sources.parameters.values())).shape[0]
    lens = Component.make("lens", mass_profile("sis"), SIS, batch)
    return Scene((lens, Component.make("shear", mass_profile("shear"), SHEAR, batch)), (sources,)).to(dtype=dtype)


def several(batch: int = 6) -> dict[str, Tensor]:
    k = torch.arange(batch, dtype=FLOAT64)
    turns = 6.0 * torch.frac(0.37 * k) - 3.0
    values = {
        "amp": 1.0 + k, "scale": 0.05 + 0.03 * k, "phi_G": turns, "center_x": 0.02 * k, "center_y": 0.1 - 0.02 * k,
        "which": k % 3,
    }  # fmt: skip
    return {name: value.float().double() for name, value in values.items()}


@pytest.mark.parametrize(
    "engine, dtype, allowed", [("torch", FLOAT64, 1e-9), ("torch", torch.float32, 1e-5), ("cpu", torch.float32, 1e-5)]
)
def test_lensed_images_against_lenstronomy(gate, engine, dtype, allowed):
    """Several cutouts, turned, scaled and off centre, in one batch."""
    values = several()
    sources = [
        theirs(int(values["which"][k]), **{n: float(v[k]) for n, v in values.items() if n != "which"}) for k in range(6)
    ]
    reference = lensed_by_lenstronomy(sources, seen(65, 65, 0.05))
    image = render(lensed(light(6, **values), dtype), seen(65, 65, 0.05), engine=engine).double()
    peak = reference.flatten(1).amax(1)
    assert (peak > 0.0).all()
    gate(
        f"cutouts, lensed, {engine} {dtype} (of peak)",
        ((image - reference).abs().flatten(1).amax(1) / peak).max(),
        allowed,
    )


def test_it_is_dark_outside_and_a_line_falls_to_zero():
    """Along a row of pixels: linear between them, to 0 one pixel beyond the last, and exactly 0 from there on."""
    row = IMAGES[0, 2]
    edge = torch.cat((torch.zeros(1), row, torch.zeros(1)))
    position = torch.linspace(-6.0, 6.0, 2401, dtype=FLOAT64)  # pixels from the centre; the row ends at +-3
    expected = torch.tensor(np.interp(position, np.arange(-4.0, 5.0), edge, left=0.0, right=0.0)) / 0.25
    for engine_dtype in (FLOAT64, torch.float32):
        source = light(1, amp=1.0, scale=0.5, phi_G=0.0, center_x=0.0, center_y=0.0).map(lambda t: t.to(engine_dtype))  # noqa: B023
        ours = raytrace.surface_brightness(
            (source,), (0.5 * position).to(engine_dtype), torch.zeros(2401, dtype=engine_dtype)
        )[0]
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-6)
        assert (ours[position.abs() >= 4.0] == 0.0).all() and (ours[position.abs() < 3.99] > 0.0).all()


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_light_that_is_elsewhere_or_without_amplitude_is_exactly_zero(engine):
    dark = {"center_x": torch.tensor([500.0, 0.0, -1e4]), "amp": torch.tensor([1.0, 0.0, 1e12])}
    image = render(lensed(light(3, scale=0.01, **dark), torch.float32), seen(33, 33), engine=engine)
    assert torch.equal(image, torch.zeros_like(image))


def test_amp_is_the_flux(gate):
    """The integral over x and y; pixels of the grid are much smaller than those of the cutout."""
    assert float(interpol.total_flux()) == 1.0 and interpol.total_flux().dtype == FLOAT64
    image = render(Scene((), (light(3, which=torch.arange(3.0, dtype=FLOAT64)),)), seen(400, 400, 0.01))
    gate("cutout: flux", (image.sum((1, 2)) / 2.0 - 1.0).abs().max(), 1e-4)


def test_cutouts_of_one_row_or_pixel():
    """A pixel alone is a tent; nothing is read beyond it."""
    one = light(1, torch.ones(1, 1, 1), amp=1.0, scale=1.0, phi_G=0.0, center_x=0.0, center_y=0.0)
    x = torch.tensor([0.0, 0.25, -0.5, 1.0, -3.0], dtype=FLOAT64)
    assert raytrace.surface_brightness((one,), x, x)[0].tolist() == [1.0, 0.5625, 0.25, 0.0, 0.0]
    row = light(2, torch.ones(2, 1, 40), which=torch.tensor([0.0, 1.0], dtype=FLOAT64))
    scene = lensed(row, torch.float32)
    torch.testing.assert_close(*(render(scene, seen(33, 33), engine=e) for e in ("cpu", "torch")), rtol=0, atol=1e-4)


@given(kwargs=CUTOUTS)
def test_gradients_equal_finite_differences(gate, kwargs):
    """Of position and every parameter but the number of the cutout, away from the kinks between pixels."""
    names = [p.name for p in PROFILE.parameters if p.name != "which"]
    inputs = [X[:400], Y[:400], *(torch.full((400,), kwargs[n], dtype=FLOAT64) for n in names)]
    which, stack = torch.ones(400, dtype=FLOAT64), Stack(IMAGES)

    def brightness(*inputs: Tensor) -> Tensor:
        return interpol.surface_brightness(*inputs, which, stack)

    leaves = [v.clone().requires_grad_(True) for v in inputs]
    gradients = torch.autograd.grad(brightness(*leaves).sum(), leaves)
    peak = kwargs["amp"] / kwargs["scale"] ** 2 * IMAGES[1].max()
    for i, gradient in enumerate(gradients):
        step = 1e-6 * inputs[i].abs().clamp(min=0.1) * min(kwargs["scale"], 1.0)

        def at(k, i=i, step=step):
            return brightness(*(v + k * step if j == i else v for j, v in enumerate(inputs)))

        forward, backward = (at(1) - at(0)) / step, (at(0) - at(-1)) / step
        scale = peak * 1e-6 / step
        smooth = (forward - backward).abs() < 1e-3 * scale  # a kink lies where they differ
        assert smooth.double().mean() > 0.95
        error = (gradient - 0.5 * (forward + backward)).abs()[smooth] / scale[smooth]
        gate("cutout: gradient - differences", error.max(), 1e-3)


def test_gradients_flow_to_the_images_and_through_a_render():
    images = IMAGES.clone().requires_grad_(True)
    scene = lensed(light(3, images, which=torch.arange(3.0, dtype=FLOAT64)))
    image = render(scene, seen(9, 9, 0.3))
    image.sum().backward()
    assert images.grad is not None and (images.grad.abs().sum((1, 2)) > 0.0).all()
    with pytest.raises(EngineError, match="gradients do not flow"):
        render(scene.to(dtype=torch.float32), seen(9, 9, 0.3), engine="cpu")


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_the_same_bits_however_batched(engine, monkeypatch):
    """In any order and number, on one thread and on two; scratch memory begins as NaN."""
    monkeypatch.setattr(cpu, "POISON", True)
    batch = 37
    scene = lensed(light(batch, **several(batch)), torch.float32)
    observation = Observation(33, 40, 0.06, 2, GaussianPSF(0.1))
    whole = render(scene, observation, engine=engine)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(0))
    assert torch.equal(render(scene.select(order), observation, engine=engine), whole[order])
    assert torch.equal(render(scene.select(order[:1]), observation, engine=engine), whole[order[:1]])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(render(scene, observation, engine=engine), whole)


def test_stacks_of_several_lights_in_slots_and_not(gate):
    """A source, clumps in slots and a lens galaxy, each of images of its own shape: none reads another's."""
    k = torch.arange(12, dtype=FLOAT64).view(4, 3)
    other = torch.rand(5, 9, 4, generator=torch.Generator().manual_seed(1))
    third = torch.rand(2, 3, 30, generator=torch.Generator().manual_seed(2))
    clumps = Component.make(
        "clumps", PROFILE, {"amp": 1.0 + k, "scale": 0.1, "center_x": 0.1 * k - 0.5, "which": k % 5}, 4,
        torch.tensor([0, 3, 1, 2]), arrays={"images": other},
    )  # fmt: skip
    galaxy = light(4, third, "galaxy", amp=0.3, scale=0.1, which=torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=FLOAT64))
    base = lensed(light(4, which=torch.tensor([2.0, 1.0, 0.0, 2.0], dtype=FLOAT64)))
    scene = Scene(base.mass, (*base.source, clumps), (galaxy,)).to(dtype=torch.float32)
    image = render(scene, seen(33, 33), engine="cpu").double()
    expected = render(scene.to(dtype=FLOAT64), seen(33, 33), engine="torch")
    gate("cutouts in slots (of peak)", ((image - expected).abs().amax() / expected.amax()), 1e-5)
    alone = [replace(scene, source=(c,), lens_light=()) for c in scene.source]
    alone.append(replace(scene, source=(), lens_light=scene.lens_light))
    total = sum(render(part, seen(33, 33), engine="cpu").double() for part in alone)
    torch.testing.assert_close(image, total, rtol=1e-5, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_images_may_have_more_pixels_than_32_bits_count(engine, tmp_path):
    """In a file that is all holes but for its last image."""
    shape = (2**19 + 1, 64, 64)
    file = np.memmap(tmp_path / "images", np.float32, "w+", shape=shape)
    file[-1] = np.linspace(0.0, 1.0, 64)
    images = torch.from_numpy(file)
    assert images.numel() > 2**31
    given = {"scale": 0.05, "which": float(shape[0] - 1)}
    many = lensed(light(1, images, **given), torch.float32)
    few = lensed(light(1, images[-1:].clone(), **(given | {"which": 0.0})), torch.float32)
    first = lensed(light(1, images, **(given | {"which": 0.0})), torch.float32)
    last = render(many, seen(17, 17), engine=engine)
    torch.testing.assert_close(last, render(few, seen(17, 17), engine=engine), rtol=1e-6, atol=0)
    assert float(last.max()) > 0.0 and float(render(first, seen(17, 17), engine=engine).max()) == 0.0


@pytest.mark.parametrize(
    "which, message",
    [
        (3.0, r"interpol.which = 3 is outside \[0, 2\] \(2 of 2 values\); number of the cutout"),
        (-1.0, r"interpol.which = -1 is outside \[0, "),
        (0.5, r"interpol.which must be whole numbers: number of the cutout"),
        (math.nan, r"interpol.which = nan is not a number"),
    ],
)
def test_numbers_of_cutouts_are_checked(which, message):
    with pytest.raises(ParameterError, match=message):
        light(2, which=which)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (None, r"source: a interpol is made of the arrays \['images'\], not \[\]"),
        ({"image": IMAGES}, r"made of the arrays \['images'\], not \['image'\]"),
        ({"images": IMAGES[0]}, r"source.images is torch.float64 \[5, 7\]: give floating-point images \[n, h, w\]"),
        ({"images": IMAGES[:0]}, r"source.images is torch.float64 \[0, 5, 7\]"),
        ({"images": IMAGES.to(torch.uint8)}, r"source.images is torch.uint8"),
    ],
)
def test_arrays_are_checked(arrays, message):
    with pytest.raises(ParameterError, match=message):
        Component.make("source", PROFILE, {"amp": 1.0, "scale": 0.1}, 2, arrays=arrays)


def test_a_profile_without_arrays_takes_none():
    with pytest.raises(ParameterError, match=r"a sis is made of the arrays \[\], not \['images'\]"):
        Component.make("lens", mass_profile("sis"), {"theta_E": 1.0}, 2, arrays={"images": IMAGES})


def test_scenes_leave_images_alone():
    """They are not chosen from with the systems, and keep their dtype; another device takes them along."""
    scene = lensed(light(4, IMAGES.float()))
    chosen = scene.select(torch.tensor([2])).to(dtype=torch.float32)
    assert chosen.source[0].arrays["images"] is scene.source[0].arrays["images"]
    assert scene.to("meta").source[0].arrays["images"].device.type == "meta"
    assert render(scene, seen(5, 5)).dtype == FLOAT64
    with pytest.raises(ParameterError, match="must be on one device"):
        replace(scene, source=(replace(scene.source[0], arrays={"images": IMAGES.to("meta")}),))


def test_a_place_that_is_not_a_number_reads_nothing_outside():
    """NaN in, NaN out, from memory that is there; the renderer then says so."""
    stack = Stack(IMAGES)
    wild = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30])
    assert stack.lookup(wild, wild, wild).tolist() == [
        float(IMAGES[0, 0, 0].float()), float(IMAGES[-1, -1, -1].float()), float(IMAGES[0, 0, 0].float()),
        float(IMAGES[-1, -1, -1].float()), float(IMAGES[0, 0, 0].float()),
    ]  # fmt: skip
    scene = lensed(light(2), torch.float32)
    bad = replace(scene.source[0], parameters=scene.source[0].parameters | {"center_x": torch.tensor([0.0, math.nan])})
    for engine in ("cpu", "torch"):
        with pytest.raises(ParameterError, match="image 1 of the batch is not finite"):
            render(replace(scene, source=(bad,)), seen(9, 9), engine=engine)
        far = replace(scene.source[0], parameters=scene.source[0].parameters | {"which": torch.tensor([7.0, -3.0])})
        assert render(replace(scene, source=(far,)), seen(9, 9), engine=engine).isfinite().all()
