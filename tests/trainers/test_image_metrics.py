"""PSNR and SSIM against closed cases, and the intervals and conventions about them."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.image import StructuralSimilarityIndexMeasure

from trainers.image_metrics import HIGHEST_PSNR, image_scores, psnr, scaled_by, ssim, with_interval


def test_psnr_of_a_constant_error_is_its_decibels():
    truth = torch.rand(3, 2, 16, 16)
    error = torch.tensor([0.1, 0.01, 0.5]).view(3, 1, 1, 1)
    expected = torch.tensor([20.0, 40.0, -20 * math.log10(0.5)])
    torch.testing.assert_close(psnr(truth + error, truth, 1.0), expected, rtol=0, atol=1e-3)


def test_psnr_is_of_flux_over_the_data_range():
    truth, image = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(psnr(7 * image, 7 * truth, 7.0), psnr(image, truth, 1.0))
    torch.testing.assert_close(psnr(image, truth, 10.0), psnr(image, truth, 1.0) + 20)


def test_an_exact_image_has_a_finite_psnr():
    truth = torch.rand(2, 1, 16, 16)
    assert psnr(truth, truth, 1.0).tolist() == [HIGHEST_PSNR] * 2
    torch.testing.assert_close(ssim(truth, truth, 1.0), torch.ones(2))


def test_ssim_of_constant_pictures_is_the_luminance_term():
    # no structure and no contrast: (2 a b + c1) / (a^2 + b^2 + c1), Wang et al. 2004, eq. 6
    a, b, data_range = 0.3, 0.7, 2.0
    c1 = (0.01 * data_range) ** 2
    value = ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b), data_range)
    assert float(value) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-4)


def test_ssim_of_each_image_is_that_of_torchmetrics_alone():
    truth, image = torch.rand(3, 1, 16, 16), torch.rand(3, 1, 16, 16)
    for number, value in enumerate(ssim(image, truth, 1.5)):
        alone = StructuralSimilarityIndexMeasure(data_range=1.5)(image[number, None], truth[number, None])
        assert float(value) == pytest.approx(float(alone), abs=1e-6)
    assert ssim(image[:1], truth[:1], 1.0).shape == (1,)


def test_ssim_is_the_mean_over_the_whole_reflected_image():
    generator = np.random.default_rng(0)
    truth, image = generator.random((32, 32)), generator.random((32, 32))
    image[8:-8, 8:-8] = truth[8:-8, 8:-8]  # so that the borders count for much

    def blurred(values):
        return gaussian_filter(values, 1.5, truncate=3.5, mode="mirror")

    a, b, c1, c2 = blurred(image), blurred(truth), 0.01**2, 0.03**2
    covariance, spread = blurred(image * truth) - a * b, blurred(image**2) - a**2 + blurred(truth**2) - b**2
    expected = (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (spread + c2))
    value = float(ssim(*(torch.from_numpy(values)[None, None] for values in (image, truth)), 1.0))
    assert value == pytest.approx(expected.mean(), abs=1e-4)
    assert expected[5:-5, 5:-5].mean() - value > 0.1


def test_scores_do_not_depend_on_the_chunks():
    truth, image = torch.rand(5, 1, 16, 16), torch.rand(5, 1, 16, 16)
    one, two = image_scores(image, truth), image_scores(image, truth, chunk=2)
    assert set(one) == {"psnr", "ssim", "mse"}
    for name in one:
        torch.testing.assert_close(one[name], two[name])
    torch.testing.assert_close(one["mse"], (image - truth).square().flatten(1).mean(1))
    torch.testing.assert_close(one["psnr"], -10 * one["mse"].log10())


def test_the_papers_scale_is_that_of_the_truth():
    truth = 5 + 3 * torch.rand(2, 1, 8, 8)
    own = scaled_by(truth, truth)
    assert own.flatten(1).amin(1).tolist() == [0, 0] and own.flatten(1).amax(1).tolist() == [1, 1]
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(scaled_by(100 * image - 7, 100 * truth - 7), scaled_by(image, truth), rtol=0, atol=1e-4)


def test_the_interval_holds_the_mean_and_narrows():
    values = torch.from_numpy(np.random.default_rng(0).normal(30, 2, 400))
    few, many = with_interval(values[:50]), with_interval(values)
    for found in (few, many):
        assert found["low"] < found["value"] < found["high"]
    width = many["high"] - many["low"]
    assert width < few["high"] - few["low"]
    assert width == pytest.approx(2 * 1.96 * 2 / 20, rel=0.2)
