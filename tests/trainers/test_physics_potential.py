"""A sphere whose potential is multiplied by a map: the sphere itself, analytic maps, and other lenses as maps."""

import pytest
import torch

import lensgen
from lensgen.errors import ParameterError
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.potential import PotentialLens

FLOAT64 = torch.float64
either_way = pytest.mark.parametrize("hard", [False, True])


def images(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


@either_way
@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (3, 2, 9, 12)])
def test_with_k_of_1_it_is_the_isothermal_sphere_bit_for_bit(shape, hard):
    image, theta_E = images(shape), torch.tensor([0.0, 4.3, 30.0])
    source = PotentialLens(hard)(image, torch.ones(3, 1, *shape[2:]), theta_E)
    expected = InverseLens("sis", hard)(image, {"theta_E": theta_E})
    for part in ("image", "weight", "field"):
        assert torch.equal(getattr(source, part), getattr(expected, part)), part


@either_way
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 7, 5)])
def test_without_a_sphere_the_source_is_the_image_whatever_k_is(shape, hard):
    image = images(shape)
    source = PotentialLens(hard)(image, images((2, 1, *shape[2:]), 1), torch.zeros(2))
    assert torch.equal(source.image, image) and torch.equal(source.weight, torch.ones_like(source.weight))


def rim_and_inside(error):
    """The largest of an error `[H * W]` on the outermost pixels, and on the others."""
    side = round(len(error) ** 0.5)
    error = error.view(side, side)
    inside = error[1:-1, 1:-1].max()
    error[1:-1, 1:-1] = 0.0
    return error.max(), inside


def errors(psi, side):
    """Deflection of the layer, for a potential psi(x, y) on the square -1..1, minus autograd's: at the rim, inside.

    The middle is left out where the sphere's own potential is 0 and the map has no value.
    """
    half = side / 2
    x, y = (t.requires_grad_() for t in pixel_positions(torch.zeros(1, 1, side, side, dtype=FLOAT64)))
    value = half * half * psi(x / half, y / half)  # of a square of side x side pixels
    expected = torch.autograd.grad(value.sum(), (x, y))
    x, y = x.detach(), y.detach()
    theta_E = 0.4 * half
    k = (value.detach() / (theta_E * torch.hypot(x, y))).view(1, 1, side, side)
    found = PotentialLens().deflection(k, torch.full((1,), theta_E, dtype=FLOAT64))
    error = torch.hypot(*(f[0] - e for f, e in zip(found, expected, strict=True))) / theta_E
    return rim_and_inside(torch.where(torch.hypot(x, y) > 0.25 * half, error, 0.0))


def waves(x, y):
    k = 1.0 + 0.2 * torch.sin(3.0 * x + 1.0) * torch.cos(2.0 * y) - 0.1 * x * y
    return 0.4 * k * torch.hypot(x, y)


def of_lens(name, **parameters):
    profile = lensgen.mass_profile(name)
    given = profile.complete(parameters)
    return lambda x, y: profile.potential(
        x, y, *(torch.tensor(v, dtype=FLOAT64) for v in given.values()), **profile.statics
    )


LENSES = {
    "waves": (waves,),
    "sie": (of_lens("sie", theta_E=0.4, e1=0.2, e2=-0.1),),
    "epl and shear": (
        of_lens("epl", theta_E=0.4, gamma=2.2, e1=0.1, e2=0.1, center_x=0.05),
        of_lens("shear", gamma1=0.05, gamma2=-0.03),
    ),
    "nfw": (of_lens("nfw", Rs=1.0, alpha_Rs=0.5),),
    "sphere and point": (of_lens("sis", theta_E=0.4), of_lens("point", theta_E=0.1, center_x=0.5, softening=0.2)),
}  # fmt: skip


@pytest.mark.parametrize("name", LENSES)
def test_any_potential_over_the_spheres_has_its_deflection(gate, name):
    """Errors are those of finite differences: a quarter on pixels half as large, half at the rim."""

    def psi(x, y):
        return sum(part(x, y) for part in LENSES[name])

    (rim, inside), (fine_rim, fine_inside) = errors(psi, 64), errors(psi, 128)
    gate(f"physics: potential's deflection on 64 px, {name} (of theta_E)", inside, 8e-3)
    gate(f"physics: potential's deflection at the rim of 64 px, {name} (of theta_E)", rim, 4e-2)
    assert fine_inside < 0.3 * inside and fine_rim < 0.6 * rim


def test_a_quadratic_k_is_exact_inside():
    def psi(x, y):
        return (1.0 + 0.1 * x - 0.2 * x * y + 0.3 * y * y) * torch.hypot(x, y)

    rim, inside = errors(psi, 16)
    assert inside < 1e-12 < rim


def functional(lens, image, k, theta_E):
    return (lens(image, k, theta_E).image * images(image.shape, 7, image.dtype)).sum()


def test_gradients_of_k_and_theta_E_equal_finite_differences(gate):
    image, lens = images((2, 1, 16, 17), 4, FLOAT64), PotentialLens()
    k, theta_E = 1.0 + 0.01 * images((2, 1, 16, 17), 5, FLOAT64), torch.tensor([3.1, 2.3], dtype=FLOAT64)
    assert (lens(image, k, theta_E).field == 1).all()
    leaves = k.clone().requires_grad_(), theta_E.clone().requires_grad_()
    by_k, by_radius = torch.autograd.grad(functional(lens, image, *leaves), leaves)
    step, direction = 1e-7, images(k.shape, 6, FLOAT64)
    ends = (functional(lens, image, k + s * direction, theta_E) for s in (step, -step))
    along = (next(ends) - next(ends)) / (2 * step)
    gate("physics: gradient of k", ((by_k * direction).sum() - along).abs() / along.abs(), 1e-5)
    ends = (functional(lens, image, k, theta_E + s * torch.tensor([1.0, -0.5])) for s in (step, -step))
    along = (next(ends) - next(ends)) / (2 * step)
    gate("physics: gradient of theta_E beside k", (by_radius[0] - 0.5 * by_radius[1] - along).abs() / along.abs(), 1e-5)
    assert (by_k != 0).double().mean() > 0.99


@pytest.mark.parametrize("theta_E", [0.0, 3.0, 40.0])
def test_gradients_are_finite_and_none_where_hard(theta_E):
    for hard in (False, True):
        image = images((2, 1, 15, 15)).requires_grad_()
        leaves = torch.ones(2, 1, 15, 15, requires_grad=True), torch.full((2,), theta_E, requires_grad=True)
        functional(PotentialLens(hard), image, *leaves).backward()
        assert image.grad is not None and image.grad.isfinite().all()
        for leaf in leaves:
            assert leaf.grad is None if hard else leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    "k, theta_E",
    [((1, 1, 8, 8), (2,)), ((2, 8, 8), (2,)), ((2, 1, 8, 9), (2,)), ((2, 1, 8, 8), (1,)), ((2, 1, 8, 8), ())],
)
def test_other_shapes_are_named(k, theta_E):
    with pytest.raises(ParameterError, match=r"must be \[2, 1, 8, 8\] and \[2\] for images \[2, 3, 8, 8\]"):
        PotentialLens()(torch.zeros(2, 3, 8, 8), torch.ones(k), torch.ones(theta_E))
