"""What is known of Einstein radii, and what a stored set has to say for it: redshift, pixels, sky."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch

import lensgen
from trainers import einstein_radius
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.data import open_data
from trainers.einstein_radius import Radii, true_radii
from trainers.errors import DataError
from trainers.finetune import Origin
from trainers.models.physics.compactness import compactness, seen, sky
from trainers.pinn import PinnTask
from trainers.pinn_config import PinnConfig
from trainers.stored import read_stored

CPU = torch.device("cpu")
HELD_OUT = ValidationConfig(fit=12, score=10, test=6, neighbours=3)


@pytest.mark.parametrize(("preset", "known"), [("deeplense_ii_legacy", False), ("deeplense_i_legacy", True)])
def test_a_saved_set_knows_for_which_sources_radii_are_stated(tmp_path, preset, known):
    changes = {"grid.size": 16, "substructure.cdm.count": 1}
    path = lensgen.benchmark(preset, "train", 60, device="cpu", overrides=changes).save(tmp_path / "a.h5", False)
    data = open_data(DataConfig(data=path), ValidationConfig(10, 10, 1, 3), 1, CPU)
    assert (true_radii(data.fit.params, data) is not None) == known
    assert read_stored(path).z_convention == lensgen.load_preset(preset).z_convention
    with h5py.File(path, "r+") as file:  # of an earlier version
        file.attrs.pop("z_convention", None)
    data = open_data(DataConfig(data=path), ValidationConfig(10, 10, 1, 3), 1, CPU)
    assert true_radii(data.fit.params, data) is not None


def test_an_npz_says_it_too(tmp_path):
    arrays = {"image": np.ones((3, 8, 8), np.float32), "label": np.zeros(3, int)}
    np.savez(tmp_path / "a.npz", **arrays, z_convention=2.0)
    assert read_stored(tmp_path / "a.npz").z_convention == 2.0
    np.savez(tmp_path / "b.npz", **arrays, z_convention=-1.0)
    with pytest.raises(DataError, match=r"z_convention is .* must be positive"):
        read_stored(tmp_path / "b.npz")


def test_without_the_size_of_a_pixel_only_the_correlation_is_known():
    pixels, arcsec, index = torch.tensor([10.0, 12.0, 14.0]), torch.tensor([1.0, 1.3, 1.4]), torch.arange(3)
    radii = Radii.of(pixels, arcsec, index, None)
    assert radii.rms is None and set(radii.figures()) == {"theta_E_correlation"}
    assert radii.figures()["theta_E_correlation"] == pytest.approx(np.corrcoef(pixels, arcsec)[0, 1])
    assert "arcsec" not in str(radii) + radii.unit and "pixel" not in radii.unit and "rms" not in str(radii)
    assert Radii.of(pixels, torch.ones(3), index, None).figures() == {}
    assert "rms error" in str(Radii.of(pixels, arcsec, index, 0.1))


def noisy(count=60, noise=0.06, level=0.0, scale=1.0):
    """Rings and their radii [pixel]; an image has `scale` times the flux, noise included."""
    generator = torch.Generator().manual_seed(3)
    radius = 8 + 6 * torch.rand(count, generator=generator)
    axis = torch.arange(48) - 23.5
    distance = torch.hypot(axis[:, None], axis[None, :])
    clean = torch.exp(-(((distance - radius[:, None, None]) / 2.5) ** 2))[:, None]
    image = clean + noise * torch.randn(clean.shape, generator=generator) + level
    return scale * image, radius


def task_of(tmp_path, image, radius, **attributes):
    """A task on such a set, before its first step."""
    arrays = {"image": image.numpy(), "label": np.arange(len(image)) % 3, "lens.theta_E": radius.numpy()}
    np.savez(tmp_path / "a.npz", **arrays, **attributes)
    source = DataConfig(data=tmp_path / "a.npz")
    config = PinnConfig(data=source, validation=HELD_OUT,
                        run=RunConfig(batch_size=8))  # fmt: skip
    return PinnTask(config, open_data(source, config.validation, 8, CPU), CPU, Origin(None, None, {}))


def bias(task, image, radius):
    """By how much the least of the task's own compactness is beside the true radius, on average."""
    at = [task.lens_losses(image, {}, torch.full_like(radius, t))["compactness"].double() for t in (0.0, 10.0, 20.0)]
    found = 10.0 - 5.0 * (at[2] - at[0]) / (at[2] - 2 * at[1] + at[0])
    return float((found / radius - 1).mean())


def test_the_sky_is_that_of_the_corners():
    image, _ = noisy(level=0.5, scale=2.0)
    level, noise = sky(image)
    assert level.shape == noise.shape == (60, 1, 1, 1)
    assert float(level.mean()) == pytest.approx(1.0, abs=0.02) and float(noise.mean()) == pytest.approx(0.12, rel=0.05)


@pytest.mark.parametrize("own_peak", [False, True])
def test_a_set_that_does_not_say_its_noise_leads_no_radius_astray(tmp_path, own_peak):
    image, radius = noisy(noise=0.1)
    if own_peak:
        image = image / image.amax((2, 3), keepdim=True)
    task = task_of(tmp_path, image, radius)
    assert len(task.remarks()) == 1 and "noisier than its input scale" in task.remarks()[0]
    assert abs(bias(task, image, radius)) < 0.01
    task._compact._noisier = False
    assert abs(bias(task, image, radius)) > 0.03  # as it was


def test_a_set_that_says_its_noise_or_has_none_is_taken_at_its_word(tmp_path):
    for name, noise, attributes in (("said", 0.06, {"input_scale": 0.06}), ("none", 0.0, {})):
        (tmp_path / name).mkdir()
        image, radius = noisy(noise=noise)
        task = task_of(tmp_path / name, image, radius, **attributes)
        assert task.remarks() == []
        theta_E = torch.full_like(radius, 9.0)
        expected = compactness(seen(image / task.data.transform.scale[0]), theta_E)
        assert torch.equal(task.lens_losses(image, {}, theta_E)["compactness"], expected)


def test_a_sky_that_is_not_dark_is_told(tmp_path):
    image, radius = noisy(level=0.5)
    (remark,) = task_of(tmp_path, image, radius, input_scale=0.06).remarks()
    assert "corners of the images of --data" in remark and "subtract sky and lens light" in remark


def test_radii_are_of_images_that_say_theirs():
    learned, index, alike = torch.tensor([10.0, 12.0, 14.0]), torch.arange(3), torch.full((3,), 12.0)
    found = Radii.of(learned, torch.tensor([1.0, 1.3, torch.nan]), index, 0.1)
    assert found.unit == "arcsec" and found.index.tolist() == [0, 1]
    assert found.correlation == pytest.approx(1.0) and found.rms == pytest.approx(0.1 / 2**0.5)
    assert set(found.figures()) == {"theta_E_correlation", "theta_E_rms_arcsec"}
    assert Radii.of(learned, alike, index, None).figures() == {}
    assert Radii.of(alike, learned, index, None).correlation == 0.0
    assert Radii.of(learned, None, index, None) is Radii.of(learned, torch.nan * alike, index, None) is None


def test_test_images_say_how_well_radii_are_known(tmp_path):
    task = task_of(tmp_path, *noisy(), input_scale=0.06, pixel_scale=0.5)
    radii = einstein_radius.test_radii(lambda images: images.amax((1, 2, 3)), task.data)
    test = next(task.data.test())
    np.testing.assert_allclose(radii.learned, 0.5 * test.image.amax((1, 2, 3)))
    np.testing.assert_allclose(radii.true, test.params["lens.theta_E"])
    assert radii.index.tolist() == test.index.tolist() and radii.unit == "arcsec"
    unknown = dataclasses.replace(task.data, z_convention=2.0)
    assert einstein_radius.test_radii(lambda images: images.amax((1, 2, 3)), unknown) is None


def test_radii_stated_for_another_redshift_are_not_those_of_the_images():
    changes = ("grid.size=16", "substructure.cdm.count=1")
    for preset, known in (("deeplense_ii_legacy", False), ("deeplense_i_legacy", True)):
        data = open_data(DataConfig(stream=True, preset=preset, set=changes), ValidationConfig(10, 10, 1, 3), 1, CPU)
        assert (true_radii(data.fit.params, data) is not None) == known
