"""README's notebook example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_notebook_example_runs(monkeypatch) -> None:
    code = re.search(r"## In a notebook\n\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    seen: dict = {}
    exec(code.group(1), seen)
    assert seen["lens"].index.tolist() == [123_456_789]
    assert seen["batch"].image.shape == (64, 1, 64, 64) and torch.isfinite(seen["loss"])


def test_the_pairs_are_made() -> None:
    code = re.search(r"## Pairs that only a simulator can make\n\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    seen: dict = {}
    exec(code.group(1), seen)
    one, other = seen["one"], seen["other"]
    assert torch.equal(one.index, other.index) and not torch.equal(one.params["source.q"], other.params["source.q"])
    assert set(seen["axions"].simulator.labels(one.index).tolist()) == {2}


def test_the_lens_of_your_own_is_lenstronomy_s() -> None:
    code = re.search(r"conventions:\n\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    seen: dict = {}
    exec(code.group(1), seen)
    data = ImageData(np.zeros((100, 100)), ra_at_xy_0=-2.475, dec_at_xy_0=-2.475, transform_pix2angle=0.05 * np.eye(2))
    model = ImageModel(
        data,
        PSF("GAUSSIAN", fwhm=0.1, truncation=4),
        LensModel(["EPL", "SHEAR"]),
        LightModel(["SERSIC_ELLIPSE"]),
    )
    epl = {"theta_E": 1.2, "gamma": 2.1, "e1": 0.1, "e2": 0.0, "center_x": 0.0, "center_y": 0.0}
    disc = seen["disc"] | {"e1": 0.0, "e2": 0.0, "center_y": 0.0}
    theirs = model.image([epl, {"gamma1": 0.03, "gamma2": -0.01}], [disc])
    assert np.abs(seen["image"][0].numpy() - theirs).max() < 1e-8 * theirs.max()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w/.-]+)\)", README))))
def test_what_it_points_at_is_there(path) -> None:
    assert (Path(__file__).parents[1] / path).exists()
