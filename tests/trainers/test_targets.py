"""What can be regressed, and what is refused."""

import pytest
import torch

import lensgen
from lensgen.errors import UnknownNameError
from trainers.errors import DataError
from trainers.targets import TARGETS, find_target

MASS = "substructure.axion.axion_mass"


def test_a_target_goes_by_its_short_name_and_by_its_parameters():
    assert find_target("axion_mass") is find_target(MASS) is TARGETS["axion_mass"]
    for name, nearest in (("axion_mas", "axion_mass"), ("lens.theta_F", r"lens\.theta_E")):
        with pytest.raises(UnknownNameError, match=f"unknown target '{name}'. Did you mean '{nearest}'"):
            find_target(name)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_the_simulator_has_every_target(target):
    simulator = lensgen.Simulator("model_a", device="cpu").override({"grid.size": 16})
    batch = simulator.batch(0, 6, label=target.label)
    value = target.of(batch.params)
    assert value.shape == (6,) and value.dtype == torch.float64 and len(value.unique()) == 6


def test_a_mass_is_in_decades():
    target = find_target("axion_mass")
    found = target.of({MASS: torch.tensor([1e-24, 1e-22])})
    torch.testing.assert_close(found, torch.tensor([-24.0, -22.0], dtype=torch.float64), rtol=0, atol=1e-6)
    assert target.scaled(target.near) == pytest.approx(-23)
    assert (target.axis, target.error_unit, target.suffix) == ("log10(axion mass / eV)", "dex", "_dex")
    assert (find_target("theta_E").axis, find_target("e1").axis) == ("Einstein radius [arcsec]", "ellipticity e1")


@pytest.mark.parametrize(("value", "shown"), [([1e-24, 0.0, 0.0], "0 for 2"), ([float("nan"), 1.0, 1.0], "nan for 1")])
def test_values_that_are_none_are_explained(value, shown):
    with pytest.raises(DataError, match=rf"axion_mass is {shown} of 3 images; it must be positive"):
        find_target("axion_mass").of({MASS: torch.tensor(value)})
    assert torch.equal(find_target("e1").of({"lens.e1": torch.zeros(2)}), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(DataError, match=r"lens\.e1, which these images do not have; they have: x"):
        find_target("e1").of({"x": torch.zeros(2)})


@pytest.mark.parametrize(
    ("name", "kept", "lost"),
    [
        ("axion_mass", ["none", "d4", "rotation", "noise", "byol"], ["simsiam", "dino", "local"]),
        ("theta_E", ["d4", "byol"], ["simclr"]),
        ("e1", ["none", "noise"], ["d4", "rotation", "byol", "simsiam"]),
    ],
)
def test_images_are_not_changed_so_that_their_label_is_wrong(name, kept, lost):
    target = find_target(name)
    assert all(target.survives(augmentation) for augmentation in kept)
    assert not any(target.survives(augmentation) for augmentation in lost)
