"""What a batch says of its substructure: the catalogue, and the mask of the pixels where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lenstronomy.LensModel.lens_model import LensModel

from lensgen import Cosmology
from lensgen.truth import DENSE
from tests.test_truth import centres, simulator


def test_catalogue_holds_what_was_drawn() -> None:
    batch = simulator("model_a", ("catalogue",), 4).batch(0, 12)
    assert set(batch.catalogue) == {"cdm.subhalos", "axion.vortex"}
    points, rods = batch.catalogue["cdm.subhalos"], batch.catalogue["axion.vortex"]
    assert set(points) == {"count", "theta_E", "softening", "center_x", "center_y"}
    assert torch.equal(points["count"].float(), batch.params["substructure.cdm.count"])
    assert torch.equal(rods["count"], (batch.label == 2).long())
    z = (batch.params[f"redshift.{k}"].double() for k in ("lens", "source"))
    area = Cosmology().einstein_area(*z)
    total = area * batch.params["substructure.cdm.total_mass"].double()
    torch.testing.assert_close(points["theta_E"].square().sum(1), total, rtol=1e-5, atol=0)
    assert torch.equal(rods["half_length"][:, 0].float(), batch.params["substructure.axion.half_length"])
    for table in (points, rods):
        used = torch.arange(table["center_x"].shape[1]) < table["count"][:, None]
        assert used.any() and all(not v[~used].any() for k, v in table.items() if k != "count")


def test_mask_marks_what_the_catalogue_lists() -> None:
    """A pixel is marked if, and only if, a subhalo dense enough is within a pixel, or its Einstein radius."""
    masses = {"substructure.cdm.mass": {"log_uniform": {"low": 1e7, "high": 1e10}}}
    batch = simulator("model_a", ("subhalo_mask", "catalogue"), 40, **masses).batch(0, 4, label="cdm")
    scale, table = batch.pixel_scale, batch.catalogue["cdm.subhalos"]
    x, y = (torch.from_numpy(v).unsqueeze(1) for v in centres(40, 40, scale))
    marked = 0
    for i in range(4):
        own = {k: v[i, : int(table["count"][i])] for k, v in table.items() if k != "count"}
        square, core = own["theta_E"] ** 2, own["softening"] ** 2
        dense = square / (scale**2 / np.pi + core) >= DENSE
        assert dense.any() and not dense.all()
        reach = (square - core).clamp(min=0.0).sqrt().clamp(min=scale)
        near = torch.hypot(x - own["center_x"], y - own["center_y"]) <= reach
        expected = (near & dense).any(1)
        assert torch.equal(batch.maps["subhalo_mask"][i].flatten(), expected)
        marked += int(expected.sum())
    assert marked > 20 and batch.maps["subhalo_mask"].dtype == torch.bool


def test_mask_of_a_rod_and_of_nothing() -> None:
    made = simulator("model_a", ("subhalo_mask", "catalogue"), 40, **{"substructure.axion.axion_mass": 3e-24})
    batch = made.batch(0, 4, label="axion")
    rod = {k: v[:, 0, None] for k, v in batch.catalogue["axion.vortex"].items() if k != "count"}
    x, y = (torch.from_numpy(v) for v in centres(40, 40, batch.pixel_scale))
    x, y = x - rod["center_x"], y - rod["center_y"]
    along = x * torch.cos(rod["angle"]) + y * torch.sin(rod["angle"])
    across = y * torch.cos(rod["angle"]) - x * torch.sin(rod["angle"])
    beyond = (along.abs() - rod["half_length"]).clamp(min=0.0)
    assert (rod["theta_E"] < rod["half_length"]).all()  # so that its circle holds but the middle of it
    reach = (rod["theta_E"] ** 2 / rod["half_length"]).clamp(min=batch.pixel_scale)
    assert torch.equal(batch.maps["subhalo_mask"].flatten(1), torch.hypot(beyond, across) <= reach)
    assert not made.batch(0, 4, label="no_sub").maps["subhalo_mask"].any()


def test_mask_of_truncated_halos_reaches_to_their_einstein_radius() -> None:
    """Heavy and concentrated, on fine pixels: where the mask ends, the mean convergence of the nearest is 1."""
    changes = {
        "substructure.cdm.count": 1, "substructure.cdm.mass": 2e11, "substructure.cdm.concentration": 200.0,
        "substructure.cdm.radius": 0.3, "instrument.pixel_scale": 0.02,
    }  # fmt: skip
    batch = simulator("model_b", ("subhalo_mask", "catalogue"), 60, **changes).batch(0, 2, label="cdm")
    x, y = (torch.from_numpy(v) for v in centres(60, 60, 0.02))
    for i in range(2):
        own = {k: v[i, 0] for k, v in batch.catalogue["cdm.subhalos"].items() if k != "count"}
        distance = torch.hypot(x - own["center_x"], y - own["center_y"])
        mask = batch.maps["subhalo_mask"][i].flatten()
        edge = float(distance[mask].max())
        assert 3 * 0.02 < edge < float(distance[~mask].min())
        halo = {k: float(v) for k, v in own.items() if k != "tau"} | {"r_trunc": float(own["tau"] * own["Rs"])}
        inside = LensModel(["TNFW"]).alpha(halo["center_x"] + edge, halo["center_y"], [halo])[0] / edge
        assert inside == pytest.approx(1.0, abs=0.15)
