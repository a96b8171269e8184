"""The inverse of a lens: identities, any mass profile by name, and a source found again behind its lens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lensgen
from lensgen import raytrace
from lensgen.errors import ParameterError, UnknownNameError
from tests.mass import cases
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.lens_model import LensModel

FLOAT64 = torch.float64
SHAPES = [(1, 1, 8, 8), (3, 2, 7, 7), (2, 1, 5, 8), (2, 3, 1, 4), (1, 1, 1, 1)]
either_way = pytest.mark.parametrize("hard", [False, True])


def images(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


@either_way
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, FLOAT64])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_deflection_the_source_is_the_image_bit_for_bit(shape, dtype, hard):
    image = images(shape, dtype=dtype)
    source = InverseLens("sis", hard)(image, {"theta_E": torch.zeros(shape[0]), "center_x": 0.3})
    assert torch.equal(source.image, image.to(torch.promote_types(dtype, torch.float32)))
    assert torch.equal(source.weight, torch.ones_like(source.weight))
    assert torch.equal(source.field, torch.ones_like(source.field))


def test_under_autocast_too():
    image = images((2, 1, 64, 64))
    expected = InverseLens()(image, {"theta_E": torch.tensor([0.0, 20.3])})
    with torch.autocast("cpu", torch.bfloat16):
        source = InverseLens()(image, {"theta_E": torch.tensor([0.0, 20.3])})
    assert torch.equal(source.image, expected.image) and torch.equal(source.image[0], image[0])


@pytest.mark.parametrize("size", [(4, 4), (5, 8), (1, 3)])
def test_pixels_are_where_lensgen_has_them(size):
    observation = lensgen.Observation(*size, 1.0, 1, lensgen.GaussianPSF(0.0))
    for ours, theirs in zip(pixel_positions(torch.zeros(1, 1, *size, dtype=FLOAT64)), observation.rays(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", cases.NAMES)
@given(data=st.data())
def test_any_mass_profile_with_lengths_in_pixels(gate, name, data):
    """What lensgen has in arcsec, on pixels of 0.07 arcsec; and as components of a scene in arcsec again."""
    profile, scale = lensgen.mass_profile(name), 0.07
    drawn = data.draw(cases.parameters(profile))
    x, y = cases.clear_of_singularities(drawn, *cases.scattered(40))
    expected = profile.deflection(x, y, *cases.tensors(profile, drawn), **profile.statics)
    in_pixels = {p.name: drawn[p.name] / (scale if p.unit == "arcsec" else 1.0) for p in profile.parameters}
    found = LensModel(name).deflection(x / scale, y / scale, in_pixels, 1)
    size = torch.hypot(*expected).amax()
    for ours, theirs in zip(found, expected, strict=True):
        gate(
            f"physics: deflection in pixels, {name}",
            (ours[0] * scale - theirs).abs().amax() / size.clamp(min=1e-9),
            1e-9,
        )
    (component,) = LensModel(name).components(in_pixels, 1, x, scale)
    for key, value in component.parameters.items():
        assert float(value) == pytest.approx(drawn[key], rel=1e-14)


@either_way
@pytest.mark.parametrize("name", cases.NAMES)
def test_any_mass_profile_makes_a_source(name, hard):
    plain = cases.stress_parameters(lensgen.mass_profile(name))[0]
    source = InverseLens(name, hard)(images((2, 1, 8, 9)), plain)
    assert source.image.isfinite().all() and (source.field >= 1).all()
    torch.testing.assert_close(source.weight.sum((1, 2, 3)), torch.full((2,), 72.0))  # no pixel's light is lost


EPL_SHEAR = {
    "theta_E": torch.tensor([5.0, 3.0]), "gamma": 2.1, "e1": torch.tensor([0.1, -0.2]), "e2": 0.05, "center_x": 0.4,
    "gamma1": 0.03, "gamma2": torch.tensor([-0.02, 0.04]), "ra_0": 1.0,
}  # fmt: skip


def test_deflections_of_several_components_add_up():
    lens = LensModel(("epl", "shear"))
    x, y = (5.0 * t for t in cases.scattered(50))
    mass = lens.components(EPL_SHEAR, 2, x, 1.0)
    assert [c.name for c in mass] == ["epl", "shear"] and mass[1].parameters["ra_0"].tolist() == [1.0, 1.0]
    source = lensgen.Component.make(
        "source", lensgen.light_profile("sersic"), dict.fromkeys(("amp", "R_sersic", "n_sersic"), 1.0), 2
    )
    for ours, theirs in zip(
        lens.deflection(x, y, EPL_SHEAR, 2), raytrace.deflection(lensgen.Scene(mass, (source,)), x, y), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_names_may_say_whose_they_are():
    twice = LensModel(("sis", "point", "sis"))
    assert list(twice.profiles) == ["sis", "point", "sis_2"]
    own = {"sis.theta_E": 2.0, "point.theta_E": 1.0, "sis_2.theta_E": 3.0, "sis_2.center_x": 4.0, "softening": 0.5}
    values = twice.values(own, 1, torch.zeros(1))
    assert [float(values[label]["theta_E"]) for label in values] == [2.0, 1.0, 3.0]
    assert [float(values[label]["center_x"]) for label in values] == [0.0, 0.0, 4.0]
    assert float(values["point"]["softening"]) == 0.5


@pytest.mark.parametrize(
    "profile, parameters, message",
    [
        ("sis", {"theta_e": 1.0}, "unknown lens parameter 'theta_e'. Did you mean 'theta_E'.* center_y, theta_E"),
        ("sis", {"sie.theta_E": 1.0}, "unknown lens parameter 'sie.theta_E'.*theta_E"),
        ("sis", {}, r"LensModel\(sis\) needs sis.theta_E \(Einstein radius\).*sis: theta_E, center_x, center_y"),
        (("epl", "shear"), {"theta_E": 1.0, "gamma1": 0}, "needs epl.gamma .*, shear.gamma2 .*epl: theta_E, .*shear:"),
        (("sis", "point"), {"theta_E": 1.0}, "'theta_E' is one of sis and of point: say sis.theta_E or point.theta_E"),
        ("sis", {"theta_E": 1.0, "sis.theta_E": 1.0}, "'sis.theta_E' is given twice, as theta_E and as sis.theta_E"),
        ("sis", {"theta_E": torch.ones(2, 1)}, r"theta_E has shape \[2, 1\]: allowed are a number or \[2\]"),
        ("sis", {"theta_E": torch.ones(3)}, r"theta_E has shape \[3\]"),
    ],
)  # fmt: skip
def test_parameters_that_are_none_are_named(profile, parameters, message):
    with pytest.raises((ParameterError, UnknownNameError), match=message):
        InverseLens(profile)(torch.zeros(2, 1, 4, 4), parameters)


def test_profiles_and_statics_that_are_none_are_named():
    with pytest.raises(
        UnknownNameError, match=r"unknown mass profile 'eple'. Did you mean 'epl'\? Known: .*, epl, .*tnfw"
    ):
        InverseLens("eple")
    with pytest.raises(UnknownNameError, match=r"unknown static 'term'. Did you mean 'terms'"):
        InverseLens(("epl", "shear"), statics={"term": 8})
    with pytest.raises(ParameterError, match=r"at least one mass profile, e.g. 'sis'"):
        InverseLens(())


def test_statics_reach_the_formula():
    x, y = cases.scattered(20)
    lens = {name: EPL_SHEAR[name] for name in ("theta_E", "gamma", "e1", "e2")}
    (full, _), (short, _), (few, _) = (
        LensModel("epl", statics).deflection(x, y, lens, 2) for statics in (None, {"terms": 30}, {"epl.terms": 1})
    )
    torch.testing.assert_close(short, full, rtol=0, atol=1e-12)
    assert (few - full).abs().max() > 1e-2


@either_way
def test_the_grid_grows_with_what_leaves_it_and_by_no_more(hard):
    """By as much as its farthest pixel is off, on the axes or on the diagonals: the sphere moves it by theta_E."""
    side, theta_E = 16, [0.0, 7.0, 11.0, 40.0]
    source = InverseLens("sis", hard)(torch.ones(4, 1, side, side), {"theta_E": torch.tensor(theta_E)})
    axis = [k - 7.5 for k in range(side)]
    for radius, field in zip(theta_E, source.field, strict=True):
        reach = max(abs(x * (1 - radius / math.hypot(x, y))) for x in axis for y in axis)
        assert float(field) == pytest.approx(max(reach / 7.5, 1.0), rel=1e-6)
    assert source.field[:2].tolist() == [1.0, 1.0] and 1.0 < float(source.field[2]) < float(source.field[3])
    torch.testing.assert_close(source.weight.sum((1, 2, 3)), torch.full((4,), 256.0))
    lit = source.weight[:, 0] >= (0.5 if hard else 0.1)
    assert (source.image[:, 0][lit] - 1.0).abs().max() < 1e-5
    outermost = source.weight[3, 0].sum() - source.weight[3, 0, 1:-1, 1:-1].sum()
    assert outermost > 0.9  # it reaches the rim


@pytest.mark.parametrize("size", [(9, 14), (14, 9)])
@pytest.mark.parametrize("centre", [(3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0)])
def test_it_grows_whichever_side_is_left(size, centre):
    """The field stays about the image's middle, and keeps its shape."""
    height, width = size
    lens = {"theta_E": 12.0, "center_x": centre[0], "center_y": centre[1]}
    source = InverseLens()(torch.ones(1, 1, height, width), lens)
    rows, columns = ([k - (n - 1) / 2 for k in range(n)] for n in size)
    reach = 0.0
    for x in columns:
        for y in rows:
            dx, dy = x - centre[0], y - centre[1]
            pull = 12.0 / max(math.hypot(dx, dy), 1e-9)
            reach = max(reach, abs(x - pull * dx) / columns[-1], abs(y - pull * dy) / rows[-1])
    assert float(source.field) == pytest.approx(reach, rel=1e-6) and reach > 1.0
    assert float(source.weight.sum()) == pytest.approx(height * width, rel=1e-6)


@either_way
def test_a_system_does_not_depend_on_its_neighbours(hard):
    image, theta_E = images((5, 2, 11, 12), 1), torch.tensor([0.0, 30.0, 4.0, 8.0, 2.5])
    inverse = InverseLens("sis", hard)
    together = inverse(image, {"theta_E": theta_E})
    assert len(set(together.field.tolist())) > 2
    for k in range(5):
        alone = inverse(image[k : k + 1], {"theta_E": theta_E[k : k + 1]})
        for part in ("image", "weight", "field"):
            assert torch.equal(getattr(alone, part)[0], getattr(together, part)[k]), part


@given(theta_E=st.floats(0.0, 12.0), quarters=st.integers(1, 3))
def test_a_turned_image_has_a_turned_source(theta_E, quarters):
    image = images((1, 2, 9, 9), 2, FLOAT64)
    inverse = InverseLens()
    source = inverse(image, {"theta_E": theta_E})
    turned = inverse(image.rot90(quarters, (2, 3)), {"theta_E": theta_E})
    torch.testing.assert_close(turned.image, source.image.rot90(quarters, (2, 3)), rtol=0, atol=1e-9)


def sersic(side, supersampling, theta_E):
    """Noise-free images `[1, 1, side, side]` of a field of 5.12 arcsec without PSF, behind a sphere or nothing."""
    light = {"amp": 1.0, "R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1, "center_x": 0.13, "center_y": -0.07}
    source = lensgen.Component.make("source", lensgen.light_profile("sersic"), light, 1)
    lens = lensgen.Component.make("lens", lensgen.mass_profile("sis"), {"theta_E": theta_E}, 1)
    observation = lensgen.Observation(side, side, 5.12 / side, supersampling, lensgen.GaussianPSF(0.0))
    return lensgen.render(lensgen.Scene((lens,), (source,)), observation, engine="torch").unsqueeze(1)


def inversion_error(side, supersampling, hard=False, theta_E=1.2):
    """Root of the mean square of (source - truth) over that of the truth, where light arrived; truth on 8 x 8 rays."""
    source = InverseLens("sis", hard)(sersic(side, supersampling, theta_E), {"theta_E": theta_E * side / 5.12})
    truth, lit = sersic(side, 8, 0.0), source.weight > 0.5
    assert lit.double().mean() > 0.3 and float(truth[lit].sum() / truth.sum()) > 0.99
    return ((source.image - truth)[lit].square().sum() / truth[lit].square().sum()).sqrt()


@pytest.mark.parametrize(
    "side, supersampling, hard, allowed",
    [
        (64, 1, False, 0.06), (64, 2, False, 0.06), (64, 4, False, 0.06), (64, 4, True, 0.06), (128, 2, False, 0.02),
        (128, 4, True, 0.02), (256, 1, False, 0.006),
    ],
)  # fmt: skip
def test_a_source_is_found_again_behind_its_lens(gate, side, supersampling, hard, allowed):
    """Within what a mean over two pixels costs: on 64 pixels R_sersic is 3 of them, and the cusp is blunted.

    It falls by 3.5 or so when pixels are halved. Rays per pixel change it by a fifth: one that is a mean over its area
    is a little blunter yet.
    """
    row = f"physics: source behind SIS, {side} px, {supersampling}x{supersampling} rays" + hard * ", hard"
    gate(row, inversion_error(side, supersampling, hard), allowed)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_wrong_lens_finds_another_source(factor):
    """5 % in theta_E cost more than interpolation does."""
    side = 128
    image, truth = sersic(side, 2, 1.2), sersic(side, 8, 0.0)
    right, wrong = (InverseLens()(image, {"theta_E": f * 1.2 * side / 5.12}).image for f in (1.0, factor))
    assert (wrong - truth).square().sum() > 6**2 * (right - truth).square().sum()


def functional(inverse, image, parameters):
    """A number that depends on all of the source."""
    source = inverse(image, parameters)
    return (source.image * images(source.image.shape, 7, image.dtype)).sum()


@pytest.mark.parametrize("profile, names", [("sis", ("theta_E",)), (("epl", "shear"), ("theta_E", "e1", "gamma2"))])
def test_gradients_of_lens_and_image_equal_finite_differences(gate, profile, names):
    """In float64, on a grid that is not enlarged."""
    given = {k: torch.as_tensor(v, dtype=FLOAT64).expand(2) for k, v in EPL_SHEAR.items()}
    if profile == "sis":
        given = {"theta_E": given["theta_E"] + 0.123}
    image, inverse = images((2, 1, 20, 21), 4, FLOAT64), InverseLens(profile)
    assert (inverse(image, given).field == 1).all()
    leaves = {name: given[name].clone().requires_grad_() for name in names}
    seen = image.clone().requires_grad_()
    gradients = torch.autograd.grad(functional(inverse, seen, given | leaves), [seen, *leaves.values()])
    step = 1e-7
    for name, gradient in zip(names, gradients[1:], strict=True):
        for b in range(2):
            shift = step * torch.eye(2, dtype=FLOAT64)[b]
            up, down = (functional(inverse, image, given | {name: given[name] + s}) for s in (shift, -shift))
            difference = (up - down) / (2 * step)
            gate(f"physics: gradient of {name}, {profile}", (gradient[b] - difference).abs() / difference.abs(), 1e-5)
    direction = images(image.shape, 9, FLOAT64)
    along = functional(inverse, image + direction, given) - functional(inverse, image, given)  # it is linear
    torch.testing.assert_close((gradients[0] * direction).sum(), along)


@pytest.mark.parametrize("theta_E", [0.0, 3.0, 50.0])
@pytest.mark.parametrize("side", [16, 17])
def test_gradients_are_finite(theta_E, side):
    """Without a lens too, on grids with a pixel at the very centre, and on enlarged ones."""
    leaf, image = torch.full((2,), theta_E, requires_grad=True), images((2, 1, side, side)).requires_grad_()
    functional(InverseLens(), image, {"theta_E": leaf}).backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().min() > 0
    assert image.grad is not None and image.grad.isfinite().all()


def test_hard_lets_no_gradient_through_to_the_lens():
    leaf, image = torch.full((2,), 3.0, requires_grad=True), images((2, 1, 16, 16)).requires_grad_()
    functional(InverseLens(hard=True), image, {"theta_E": leaf}).backward()
    assert leaf.grad is None and image.grad is not None and image.grad.abs().max() > 0
