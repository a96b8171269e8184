"""Figures: what they say is read off matplotlib's objects, not off pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensgen import Batch, Component, Scene, Simulator
from lensgen.__main__ import Choice, Preview
from lensgen.errors import ParameterError
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.pictures import rgb
from lensgen.plot import class_differences, classes_of, gallery, scene_figure, truth_panels

PNG = b"\x89PNG"
BANDS = {
    "instrument": {"bands": ["lsst_g", "lsst_r", "lsst_i"], "pixel_scale": 0.2}, "noise.exposure_time": 1000.0,
    "source.colour": {"lsst_r": -0.3, "lsst_i": -0.6},
}  # fmt: skip


def simulator(outputs: tuple[str, ...] = ("image",), **changes) -> Simulator:
    made = Simulator("model_a", seed=1, device="cpu", engine="torch", outputs=outputs)
    return made.override({"grid.size": [20, 24], **changes})


def pictures(figure) -> list:
    """Axes that show an image."""
    return [axes for axes in figure.axes if axes.images]


def bars(figure) -> int:
    return sum(hasattr(axes, "_colorbar") for axes in figure.axes)


def labels(figure) -> set[str]:
    texts = [axes.get_xlabel() for axes in figure.axes] + [axes.get_ylabel() for axes in figure.axes]
    return {t for t in (*texts, figure.get_supxlabel(), figure.get_supylabel()) if t}


def test_gallery_names_classes_and_has_axes_in_arcsec() -> None:
    batch = simulator().batch(0, 5)
    figure = gallery(batch, columns=3)
    shown = pictures(figure)
    assert len(shown) == 5 and labels(figure) == {"arcsec"}
    for i, axes in enumerate(shown):
        title = axes.get_title()
        assert batch.class_names[int(batch.label[i])] in title and f"#{i}" in title and "θ" in title
        assert axes.get_xlim() == pytest.approx((-1.2, 1.2)) and axes.get_ylim() == pytest.approx((-1.0, 1.0))
        assert np.array_equal(axes.images[0].get_array(), batch.image[i, 0].numpy())
        assert axes.images[0].origin == "lower"


def test_three_bands_are_a_colour_picture_or_one_each() -> None:
    batch = simulator(**BANDS).batch(0, 2)
    shown = pictures(gallery(batch))
    assert [axes.images[0].get_array().shape for axes in shown] == [(20, 24, 3)] * 2
    each = pictures(gallery(batch, colour=False))
    assert [axes.get_title().split("\n")[1] for axes in each] == ["lsst_g", "lsst_r", "lsst_i"] * 2
    two = batch.map(lambda t: t[:, :2] if t.dim() == 4 else t)
    assert len(pictures(gallery(two))) == 4  # red, green and blue need three


def test_colours_keep_the_ratios_of_the_bands() -> None:
    """The reddest band is red, sky is black, what is equally bright in all bands is grey, and nothing overflows."""
    image = torch.zeros(3, 30, 30)
    image[:, 5:8, 5:8] = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1)
    image[:, 20:23, 20:23] = 4.0
    colours = rgb(image, torch.ones(3))
    red, green, blue = colours[6, 6].tolist()
    assert red > green > blue > 0.0 and green / red == pytest.approx(2 / 6, rel=1e-3)
    assert colours[21, 21].std() < 1e-6 and float(colours[0, 0].max()) == 0.0
    assert float(colours.min()) >= 0.0 and float(colours.max()) <= 1.0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_images_that_are_the_same_everywhere_can_be_shown(value: float) -> None:
    batch = simulator().batch(0, 2)
    flat = Batch(torch.full((2, 3, 5, 5), value), batch.label, batch.class_names, {}, batch.index, 0.1)
    assert flat._repr_png_().startswith(PNG)
    assert flat.map(lambda t: t[:, :1] if t.dim() == 4 else t)._repr_png_().startswith(PNG)


def test_class_differences_name_class_and_preset() -> None:
    figure = class_differences([simulator(), simulator(**BANDS)])
    titles = [axes.get_title() for axes in pictures(figure)]
    assert len(titles) == 12 and titles[1::2] == ["with - without, / peak"] * 6
    assert [t.split(" #")[0] for t in titles[::2]] == ["no_sub", "cdm", "axion"] * 2
    assert labels(figure) == {"model_a\narcsec", "arcsec"} and bars(figure) == 12
    nothing, something = (pictures(figure)[k].images[0].get_array() for k in (1, 3))
    assert not nothing.any() and abs(something).max() > 0.0


def test_truth_panels_show_each_class() -> None:
    figure = truth_panels(simulator(**{"grid.size": 40}))
    shown = pictures(figure)
    titles = [axes.get_title() for axes in shown]
    assert len(shown) == 18 and [t.split(" #")[0] for t in titles[::6]] == ["no_sub", "cdm", "axion"]
    for row in range(3):
        assert titles[6 * row + 1 : 6 * row + 5] == ["clean, e-/s", "source, e-/s", "convergence κ", "magnification µ"]
        assert titles[6 * row + 5].startswith("κ of the substructure")
        assert len(shown[6 * row + 4].collections) == 1  # critical curves
    assert titles[5].endswith("= 0") and not titles[11].endswith("= 0")
    assert labels(figure) == {"arcsec"} and bars(figure) == 17  # none for a panel that is 0
    kappa = shown[3].images[0]
    assert type(kappa.norm).__name__ == "LogNorm" and kappa.get_array().max() > 1.0


def test_truth_panels_of_a_batch_take_what_it_holds() -> None:
    outputs = ("clean", "source", "kappa", "magnification", "kappa_sub")
    batch = simulator(outputs).batch(0, 6, label="cdm")
    assert len(pictures(truth_panels(batch))) == 6
    lacking = batch.map(lambda t: t)
    del lacking.maps["kappa"]
    with pytest.raises(ParameterError, match=r"this batch lacks kappa. Fix: Simulator\(..., outputs="):
        truth_panels(lacking)


def test_a_batch_shows_its_maps_beside_the_images() -> None:
    outputs = ("image_hr", "lens_light", "noise_map", "deflection", "potential", "subhalo_mask", "catalogue")
    batch = simulator(outputs, **BANDS).batch(0, 2)
    figure = batch.show()
    shown = pictures(figure)
    assert len(shown) == 2 * (1 + 1 + 1 + 3 + 2 + 1 + 1)  # the noise has no colour: a picture a band
    assert {axes.get_xlim() for axes in shown} == {shown[0].get_xlim()}  # fine pixels cover the same field
    assert shown[1].images[0].get_array().shape == (40, 48, 3)
    assert "deflection α$_x$, arcsec" in {axes.get_title() for axes in shown}
    assert batch._repr_png_().startswith(PNG)
    assert len(pictures(simulator(("catalogue",)).batch(0, 2).show())) == 2  # nothing to see in it


def sphere(theta_E: float, x: float = 0.0, count: int = 1) -> Scene:
    lens = {"theta_E": torch.full((count,), theta_E), "center_x": x}
    source = {"amp": 1.0, "R_sersic": 0.1, "n_sersic": 1.0, "center_x": x}
    return Scene(
        (Component.make("lens", mass_profile("sis"), lens, count),),
        (Component.make("source", light_profile("sersic"), source, count),),
    )


@pytest.mark.parametrize("theta_E, x", [(1.2, 0.0), (0.1, 0.0), (6.0, 1.0)])
def test_a_scene_shows_its_critical_curves_on_a_field_that_holds_them(theta_E: float, x: float) -> None:
    figure = scene_figure(sphere(theta_E, x))
    light, kappa = pictures(figure)
    half = light.get_xlim()[1]
    assert theta_E + x < half < 4 * (theta_E + x) + 0.6
    for axes in (light, kappa):
        curve = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
        radius = np.hypot(curve[:, 0] - x, curve[:, 1])
        outer = radius[radius > 0.5 * theta_E]
        assert len(outer) > 50 and np.abs(outer - theta_E).max() < 2 * half / 200
    assert labels(figure) == {"arcsec"} and "convergence" in kappa.get_title() and bars(figure) == 2


def test_scenes_of_many_systems_of_light_alone_and_of_mass_alone() -> None:
    many = sphere(1.0, count=6)
    assert len(pictures(many.show())) == 8 and len(pictures(many.show(systems=1))) == 2
    for scene in (Scene((), many.source), Scene(many.mass, ()), Scene((), (), many.source)):
        assert scene.select(torch.tensor([0]))._repr_png_().startswith(PNG)


def test_preview_of_the_truth(tmp_path) -> None:
    out = tmp_path / "new" / "truth.png"
    Preview(Choice(set=("grid.size=16",), device="cpu", engine="torch"), out=out, truth=True).run()
    assert out.read_bytes().startswith(PNG)


def test_a_row_of_classes_for_each_preset() -> None:
    presets = ("model_a", "euclid_nisp")
    made = classes_of([Simulator(name, device="cpu").override({"grid.size": 12}) for name in presets])
    titles = [axes.get_title() for axes in made.axes]
    assert sum("cdm" in title for title in titles) == 4 and sum("axion" in title for title in titles) == 4
    labels = " ".join(axes.get_ylabel() for axes in made.axes)
    assert all(name in labels for name in presets) and "arcsec" in labels
