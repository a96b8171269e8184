"""Grad-CAM of both of LensPINN's eyes and of Lensformer's: of the right layer, class by class."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainers.grad_cam import eyes, grad_cam
from trainers.models.pinn import build_pinn

LENSPINN = {"hard": False, "floor": 0.02, "noise_floor": 2.0, "dropout": 0.0, "preprocessing": True, "physics": True}


@pytest.mark.parametrize(
    ("name", "options", "titles"),
    [
        ("lenspinn_small", {}, ["image", "preprocessed"]),
        ("lenspinn_large", {"preprocessing": False}, ["image", "image, second CNN"]),
        ("lenspinn_small", {"physics": False}, ["preprocessed"]),
        ("lenspinn_small", {"physics": False, "preprocessing": False}, ["image"]),
        ("lensformer", None, ["image", "preprocessed"]),
    ],
)
def test_grad_cam_of_each_eye_and_class(name, options, titles):
    own = {"hard": False, "floor": 0.02, "noise_floor": 2.0, "dropout": 0.0} if options is None else LENSPINN | options
    torch.manual_seed(0)
    network = build_pinn({"name": name, "image_shape": [1, 64, 64], "classes": 3, "options": own})
    images = torch.asinh(20 * torch.rand(2, 1, 64, 64))
    found = eyes(network, (64, 64))
    assert [eye.title for eye in found] == titles
    for eye in found:
        maps = [grad_cam(network, eye, images, number) for number in (0, 2)]
        assert all(own.shape == (2, 64, 64) and own.min() >= 0 and own.max() <= 1 for own in maps)
        assert not np.allclose(maps[0], maps[1])
    assert all(own.grad is None or not own.grad.any() for own in network.parameters())


def test_grad_cam_is_the_gradients_mean_times_the_activation():
    torch.manual_seed(0)
    network = build_pinn(
        {"name": "lenspinn_small", "image_shape": [1, 64, 64], "classes": 3, "options": LENSPINN}
    ).eval()
    images = torch.asinh(20 * torch.rand(2, 1, 64, 64))
    eye = eyes(network, (64, 64))[0]
    kept = []
    hook = eye.layer.register_forward_hook(lambda module, given, found: kept.append(found))
    outputs = network(images)
    (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), kept[-1])
    hook.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    expected = functional.relu((weights * kept[-1]).sum(1))[:2]
    found = torch.from_numpy(grad_cam(network, eye, images, 1))
    small = functional.interpolate(found[:, None], expected.shape[-2:], mode="area")[:, 0]
    for one, two in zip(small, expected, strict=True):
        assert two.any() and np.corrcoef(one.flatten(), two.detach().flatten())[0, 1] > 0.95
