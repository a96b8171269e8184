"""Classifiers: a network with a head, or the nearest neighbours of a frozen one's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import CheckpointError
from trainers.models.heads import OnFrozenEncoder, build_features, build_with_head, in_chunks
from trainers.transform import InputTransform
from trainers.views import SYMMETRIES, d4

Method = Literal["finetune", "linear", "knn"]


class NearestNeighbours(OnFrozenEncoder):
    """The votes of the images that were remembered and whose standardised features are nearest, by cosine distance.

    What is remembered is part of the state dict, so that a checkpoint is a classifier.

    Args:
        encoder, width: as for `OnFrozenEncoder`.
        classes: number of classes K.
        images: how many images will be remembered.
        neighbours: how many of them vote.
    """

    memory: Tensor
    memory_label: Tensor

    def __init__(self, encoder: nn.Module, width: int, classes: int, images: int, neighbours: int) -> None:
        super().__init__(encoder, width)
        self.classes, self.neighbours = classes, neighbours
        self.register_buffer("memory", torch.zeros(images, width))
        self.register_buffer("memory_label", torch.zeros(images, dtype=torch.long))

    def remember(self, images: Tensor, label: Tensor) -> None:
        """Takes transformed images `[N, C, H, W]` and their labels `[N]` as those that vote."""
        features = in_chunks(self.encoder, images)
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
        return functional.normalize(self.standardised(features), dim=1)


def build_classifier(model: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """The classifier that a checkpoint's `about["model"]` describes, newly initialised.

    Args:
        model: as for `build_with_head`, with `classes`; the method may be "knn" too, with `images` and `neighbours`.
        pretrained: with timm's weights.
    """
    if model["method"] == "knn":
        features = build_features(model, pretrained)
        return NearestNeighbours(*features, model["classes"], model["images"], model["neighbours"])
    return build_with_head(model, model["classes"], pretrained)


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
    logits = in_chunks(model, images)
    if not average_d4:
        return logits.softmax(dim=1), logits
    mean = logits.softmax(dim=1)
    for number in range(1, SYMMETRIES):
        turned = d4(images, torch.full((len(images),), number, device=images.device))
        mean = mean + in_chunks(model, turned).softmax(dim=1)
    return mean / SYMMETRIES, logits
