"""Classifiers: a whole network, a linear layer on a frozen one, or the nearest neighbours of its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import CheckpointError
from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform
from trainers.views import SYMMETRIES, d4

Method = Literal["finetune", "linear", "knn"]
CHUNK = 250  # images at a time where no gradient is kept


class LinearProbe(nn.Module):
    """A linear layer on the standardised features of a frozen encoder, as in He et al. 2021 (arXiv 2111.06377, A.1).

    Theirs are standardised by each batch, these by images that `standardise` was given, once, so that a step does not
    depend on how its batch is shared out between processes. Both are part of the state dict.

    Args:
        encoder: images `[B, C, H, W]` -> features `[B, D]`; always in evaluation mode, never trained.
        width: D.
        classes: number of classes K.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def standardise(self, images: Tensor) -> None:
        """Takes mean and deviation of the features of transformed images `[N, C, H, W]` as those of all."""
        features = _features(self.encoder, images)
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_((features.var(dim=0, correction=0) + 1e-6).sqrt())

    def train(self, mode: bool = True) -> LinearProbe:
        """As of every module, but for the encoder, whose dropout and batch norms stay still."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        with torch.no_grad():
            features = self.encoder(images)
        return self.head((features - self.mean) / self.deviation)


class NearestNeighbours(nn.Module):
    """The votes of the images that were remembered and whose standardised features are nearest, by cosine distance.

    What is remembered is part of the state dict, so that a checkpoint is a classifier.

    Args:
        encoder: images `[B, C, H, W]` -> features `[B, D]`.
        width: D.
        classes: number of classes K.
        images: how many images will be remembered.
        neighbours: how many of them vote.
    """

    memory: Tensor
    memory_label: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: nn.Module, width: int, classes: int, images: int, neighbours: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.classes, self.neighbours = classes, neighbours
        self.register_buffer("memory", torch.zeros(images, width))
        self.register_buffer("memory_label", torch.zeros(images, dtype=torch.long))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def remember(self, images: Tensor, label: Tensor) -> None:
        """Takes transformed images `[N, C, H, W]` and their labels `[N]` as those that vote."""
        features = _features(self.encoder, images)
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(features.std(dim=0, correction=0).clamp(min=1e-12))
        self.memory.copy_(self._direction(features))
        self.memory_label.copy_(label)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of probabilities `[B, K]`.

        One vote more is shared out evenly: that changes neither order nor choice, and makes no class impossible.
        """
        nearest = (self._direction(self.encoder(images)) @ self.memory.T).topk(self.neighbours, dim=1).indices
        votes = functional.one_hot(self.memory_label[nearest], self.classes).sum(dim=1)
        return ((votes + 1 / self.classes) / (self.neighbours + 1)).log()

    def _direction(self, features: Tensor) -> Tensor:
        return functional.normalize((features - self.mean) / self.deviation, dim=1)


def _features(encoder: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([encoder(part) for part in images.split(CHUNK)])


def build_classifier(model: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """The classifier that a checkpoint's `about["model"]` describes, newly initialised.

    Args:
        model: `name` in the registry, `image_shape`, `classes`, `vit`, `method`, and for the method knn `images` and
            `neighbours`.
        pretrained: with timm's weights.
    """
    channels, height, width = model["image_shape"]
    shape, classes, method = (channels, height, width), model["classes"], model["method"]
    outputs = classes if method == "finetune" else 0
    network = build_model(model["name"], shape, outputs, ViTConfig(**model["vit"]), pretrained)
    if method == "finetune":
        return network
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, *shape)).shape[1]
    if method == "linear":
        return LinearProbe(network, features, classes)
    return NearestNeighbours(network, features, classes, model["images"], model["neighbours"])


def take_encoder(model: nn.Module, encoder: nn.Module) -> None:
    """Puts a pretrained encoder's weights into a classifier that was built for it; all but the head must be there."""
    network = model.encoder if isinstance(model, LinearProbe | NearestNeighbours) else model
    missing, unexpected = cast(nn.Module, network).load_state_dict(encoder.state_dict(), strict=False)
    assert set(missing) <= {"head.weight", "head.bias"} and not unexpected, (missing, unexpected)


def restore(about: Mapping[str, Any]) -> nn.Module:
    """The bare model of a checkpoint of `trainers.classify`; its weights are not loaded yet.

    Raises:
        CheckpointError: another trainer's.
    """
    if about.get("trainer") != "classify":
        raise CheckpointError(f"the checkpoint is by trainers.{about.get('trainer')}, not by trainers.classify.")
    return build_classifier(about["model"])


def predict(model: nn.Module, transform: InputTransform, image: Tensor, average_d4: bool = False) -> Tensor:
    """Probabilities `[B, K]` in float32, without gradients.

    Args:
        image: `[B, C, H, W]`, in the simulator's units.
        average_d4: of the eight rotated and mirrored images of each lens the mean.
    """
    return probabilities_and_logits(model, transform(image), average_d4)[0]


def probabilities_and_logits(model: nn.Module, images: Tensor, average_d4: bool = False) -> tuple[Tensor, Tensor]:
    """Of transformed images `[N, C, H, W]`, both `[N, K]`; the logits are those of the images as they are."""
    with torch.no_grad():
        logits = torch.cat([model(part).float() for part in images.split(CHUNK)])
        if not average_d4:
            return logits.softmax(dim=1), logits
        mean = logits.softmax(dim=1)
        for number in range(1, SYMMETRIES):
            turned = d4(images, torch.full((len(images),), number, device=images.device))
            mean = mean + torch.cat([model(part).float().softmax(dim=1) for part in turned.split(CHUNK)])
        return mean / SYMMETRIES, logits
