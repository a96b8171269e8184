"""What is drawn of networks that rebuild sources at work: that it can be compared with the truth beside it."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from trainers import pinn_figures
from trainers.config import DataConfig, ValidationConfig
from trainers.data import open_data
from trainers.grad_cam import eyes, grad_cam
from trainers.models.explanation import Explanation
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.potential import PotentialLens
from trainers.pinn_seeing import draw_seen
from trainers.seeing import in_units_of_sphere, learned_and_true_k, some_of_each_class, source_panels

CPU = torch.device("cpu")
NETWORKS = {"lenspinn_small": LensPINN, "lensformer": Lensformer}


@functools.cache
def simulated(*changes, preset="lenspinn", transform="asinh", test=12):
    config = DataConfig(stream=True, preset=preset, set=changes, input_transform=transform)
    return open_data(config, ValidationConfig(fit=10, score=10, test=test, neighbours=3), 1, CPU)


def network_of(data, name):
    torch.manual_seed(0)
    return NETWORKS[name](data.image_shape, len(data.class_names)).eval()


class Says(nn.Module):
    """A lens that a network is made to believe in."""

    def __init__(self, *found):
        super().__init__()
        self.found = found

    def forward(self, _):
        return self.found if len(self.found) > 1 else self.found[0]


def panels_of(network, data, lenses):
    with torch.no_grad():
        found = network.explain(data.transform(lenses.image))
        return {panel.title.split(",")[0]: panel for panel in source_panels(network, found, data, lenses)}


def no_sub(data, count=2):
    """The first images without substructure, and their theta_E in pixels."""
    every = some_of_each_class(data, count)
    kept = every.label == data.class_names.index("no_sub")
    params = {name: column[kept] for name, column in every.params.items()}
    lenses = type(every)(every.image[kept], every.label[kept], every.index[kept], params)
    return lenses, params["lens.theta_E"] / data.pixel_scale


@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_of_a_compiled_network_is_that_of_the_network(name):
    data = simulated("grid.size=[32, 64]")
    images = data.transform(data.fit.image[:4])
    network = network_of(data, name)
    eye = eyes(network, (32, 64))[0]
    plain = grad_cam(network, eye, images, 1)
    network.compile(backend="eager")
    network(images)  # as in training: code that was compiled before there were hooks does not look for them
    np.testing.assert_array_equal(grad_cam(network, eye, images, 1), plain)
    assert plain.any()


def test_grad_cam_of_padded_images_is_where_these_are():
    data = simulated("grid.size=[32, 40]")
    network = network_of(data, "lensformer")
    eye = eyes(network, (32, 40))[0]
    assert eye.padded == (32, 64)
    # with the second patch alone, which begins in the middle of the padded width, that half alone can be lit
    second = dataclasses.replace(eye, as_map=lambda tokens: eye.as_map(tokens) * torch.tensor([0.0, 1.0]))
    found = [grad_cam(network, second, data.transform(data.fit.image[:4]), number) for number in range(3)]
    lit = [one for one in np.concatenate(found) if one.any()]
    assert lit
    for one in lit:  # from the first patch's middle, 4 pixels into the image, to the second one's, 4 before its end
        assert one.shape == (32, 40)
        assert one[:, :4].max() == 0 and one[:, 36:].min() > 0.99
        np.testing.assert_allclose(one[:, [10, 20, 30]].mean(0), np.array([6.5, 16.5, 26.5]) / 32, atol=0.01)


@pytest.mark.parametrize("shape", ["32", "[24, 40]"])
def test_k_of_spheres_is_1_learned_and_true(shape):
    data = simulated(f"grid.size={shape}", test=30)
    lenses, theta_E = no_sub(data)
    network = network_of(data, "lensformer")
    k = torch.full((2, 1, *data.image_shape[1:]), 1 / 1.1)
    network.correction = Says(k, 1.1 * theta_E)  # another split of the same potential
    panels = panels_of(network, data, lenses)
    for title in ("learned k", "true k"):
        pictures = panels[title].pictures
        shown = np.isfinite(pictures)
        np.testing.assert_allclose(pictures[shown], 1, atol=1e-5)
        assert (~shown).sum((1, 2)).tolist() == [52, 52]  # within 4 pixels of the middle
    # a wrong sphere is one, in units of the true one
    network.correction = Says(torch.ones_like(k), 1.1 * theta_E)
    assert abs(np.nanmax(panels_of(network, data, lenses)["learned k"].pictures) - 1) > 0.03


def explained(lenses, k=None):
    """Of a network that takes every lens for the same sphere, with or without k."""
    return Explanation(lenses.image, torch.full((len(lenses.image),), 8.0), None, None, k)


def test_any_network_that_rebuilds_sources_is_shown():
    data = simulated()
    lenses = some_of_each_class(data, 1)
    k = torch.ones_like(lenses.image)
    simple = source_panels(SimpleNamespace(inverse=InverseLens()), explained(lenses), data, lenses)
    assert [panel.title for panel in simple] == ["image", "rebuilt source", "true source"]
    corrected = source_panels(SimpleNamespace(inverse=PotentialLens()), explained(lenses, k), data, lenses)
    titles = ["image", "rebuilt source", "true source", "learned k, for true θ$_E$", "true k"]
    assert [panel.title for panel in corrected] == titles
    np.testing.assert_allclose(simple[1].pictures, corrected[1].pictures, atol=1e-4)  # k = 1 is the sphere


def test_an_image_that_is_not_preprocessed_is_shown_once():
    data = simulated()
    network = LensPINN(data.image_shape, 3, preprocessing=False).eval()
    assert list(panels_of(network, data, some_of_each_class(data, 1))) == ["image", "rebuilt source", "true source"]


def test_k_can_be_compared_with_the_truth_where_there_is_one(stored):
    data = simulated()
    lenses = some_of_each_class(data, 1)
    k = 1 + 0.1 * torch.rand_like(lenses.image)
    learned, true = learned_and_true_k(explained(lenses, k), data, lenses)
    assert learned.shape == true.shape == k.shape and torch.equal(learned.isnan(), true.isnan())
    assert learned.isnan().any() and learned.isfinite().any()
    panels = source_panels(SimpleNamespace(inverse=PotentialLens()), explained(lenses, k), data, lenses)
    for panel, one in zip(panels[-2:], (learned, true), strict=True):
        np.testing.assert_array_equal(panel.pictures, one[:, 0])
    assert learned_and_true_k(explained(lenses), data, lenses) is None
    # a stored set has no potentials, and a preset that states its radii for other sources no radii
    stored_set = open_data(DataConfig(data=stored), ValidationConfig(fit=30, score=12, test=20, neighbours=3), 8, CPU)
    for other in (stored_set, dataclasses.replace(data, z_convention=2.0)):
        few = some_of_each_class(other, 1)
        found = explained(few, torch.ones_like(few.image))
        assert learned_and_true_k(found, other, few) is None
        last = source_panels(SimpleNamespace(inverse=PotentialLens()), found, other, few)[-1]
        assert last.title == "k"
        np.testing.assert_allclose(last.pictures[np.isfinite(last.pictures)], 1, atol=1e-5)  # of the learned sphere


def test_a_constant_of_the_potential_changes_no_k():
    potential, theta_E = 100 * torch.rand(2, 1, 16, 24), torch.tensor([4.0, 6.0])
    one, two = (in_units_of_sphere(potential + constant, theta_E) for constant in (0.0, 50.0))
    torch.testing.assert_close(one, two, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transform", ["asinh", "minmax"])
@pytest.mark.parametrize("more", [(), ("normalise=peak",), ("noise.recipe=deeplense_i",)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_source_rebuilt_by_the_true_lens_is_as_bright_as_the_true_one(name, more, transform):
    changes = ("noise.recipe=none", "source.R_sersic=0.5", "psf.fwhm=0.05", *more)
    data = simulated(*changes, transform=transform, test=30)
    lenses, theta_E = no_sub(data)
    network = network_of(data, name)
    if name == "lensformer":
        network.correction = Says(torch.ones(2, 1, *data.image_shape[1:]), theta_E)
    else:
        network.radius = Says(theta_E)
    panels = panels_of(network, data, lenses)
    made, true = panels["rebuilt source"].pictures, panels["true source"].pictures
    bright = true > 0.5 * true.max((1, 2), keepdims=True)
    assert bright.sum() > 20
    np.testing.assert_allclose(made[bright].mean(), true[bright].mean(), rtol=0.03)
    if transform == "asinh":  # of the mean flux, and no mean of asinh
        lens = (torch.ones(2, 1, 64, 64), theta_E) if name == "lensformer" else ({"theta_E": theta_E},)
        source = network.inverse(lenses.image, *lens).image
        np.testing.assert_allclose(made, data.transform(source)[:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_of_oblong_images_is_drawn_as_it_is(name, tmp_path, monkeypatch):
    figures, save = [], pinn_figures.Figure.savefig

    def coarse(self, path, **how):
        self.set_layout_engine("none")  # which takes longer than all the rest
        figures.append(self)
        save(self, path, dpi=20)

    monkeypatch.setattr(pinn_figures.Figure, "savefig", coarse)
    data = simulated("grid.size=[32, 48]")
    files = draw_seen(network_of(data, name), data, tmp_path, lenses_per_class=1)
    assert [file.name for file in files] == ["sources.png", "grad_cam.png"] and all(file.exists() for file in files)
    axes = [axis for axis in figures[0].axes if axis.get_images()]
    columns, bars = (4, 3) if name == "lenspinn_small" else (6, 5)
    assert len(axes) == columns * 3 and len(figures[0].axes) - len(axes) == bars * 3
    for axis in axes:
        left, right, bottom, top = axis.get_images()[0].get_extent()
        assert (right - left) / (top - bottom) == pytest.approx(1.5)
        assert np.ptp(axis.get_xlim()) / np.ptp(axis.get_ylim()) == pytest.approx(1.5)
    assert axes[0].get_xlim()[1] == pytest.approx(24 * data.pixel_scale)
    for first in range(0, len(axes), columns):
        drawn = [axis.get_images()[0] for axis in axes[first : first + columns]]
        assert drawn[2].get_clim() == drawn[3].get_clim()  # the sources are on one scale
        for each in drawn[2:]:
            assert each.get_clim()[0] <= each.get_array().min() and each.get_clim()[1] >= each.get_array().max()
        for k in drawn[4:]:  # and each k on its own, however far from 1 the other one is
            assert k.get_clim()[1] - 1 == pytest.approx(max(1e-3, np.abs(k.get_array() - 1).max()))


def test_classes_are_looked_for_in_all_test_images(stored, capsys):
    data = open_data(DataConfig(data=stored), ValidationConfig(fit=30, score=12, test=20, neighbours=3), 8, CPU)
    whole = next(data.test())
    order = torch.argsort(whole.label)

    def batches_of(rows):
        def cut(batch_rows):
            params = {name: column[batch_rows] for name, column in whole.params.items()}
            return dataclasses.replace(
                whole, image=whole.image[batch_rows], label=whole.label[batch_rows], index=whole.index[batch_rows],
                params=params,
            )  # fmt: skip

        return lambda size: (cut(part) for part in rows.split(3))

    late = some_of_each_class(dataclasses.replace(data, test_batches=batches_of(order)), 2)
    assert late.label.tolist() == [0, 0, 1, 1, 2, 2] and capsys.readouterr().out == ""
    at = [whole.index.tolist().index(number) for number in late.index.tolist()]
    assert torch.equal(whole.image[at], late.image) and torch.equal(whole.params["x"][at], late.params["x"])
    without = order[whole.label[order] != 1]
    few = some_of_each_class(dataclasses.replace(data, test_batches=batches_of(without)), 2)
    assert few.label.tolist() == [0, 0, 2, 2]
    assert f"no test image is of class {data.class_names[1]}: none is drawn" in capsys.readouterr().out
