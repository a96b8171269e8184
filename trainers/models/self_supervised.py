"""An encoder while it teaches itself: with heads, and with a teacher where its method has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import CheckpointError
from trainers.models.registry import ImageShape, build_model
from trainers.models.running_mean import follow
from trainers.models.vit import ViTConfig
from trainers.self_supervision.method import Heads, Options
from trainers.self_supervision.registry import METHODS


class SelfSupervised(nn.Module):
    """An encoder, its heads, its teacher and its loss (whose buffers a resumed run needs).

    Args:
        name: of the encoder in `models.registry`.
        image_shape: `(C, H, W)`.
        vit: the options of a ViT.
        method: a name in `METHODS`.
        heads: what stands on the encoder.
        options: of the method, each with its value.
    """

    def __init__(
        self, name: str, image_shape: ImageShape, vit: ViTConfig, method: str, heads: Heads, options: Options
    ) -> None:
        super().__init__()
        self.method, self.heads, self.options = METHODS[method], heads, options
        self.encoder = build_model(name, image_shape, 0, vit)
        features = _features(self.encoder, image_shape)
        self.projector = self.method.projector(features, heads)
        self.predictor = None
        if heads.predictor:
            assert self.method.predictor is not None, "the command line refuses it"
            self.predictor = self.method.predictor(heads)
        self.teacher = None
        if heads.teacher == "momentum":
            # it drops nothing (Caron et al. 2021); its batch norms take the statistics of the batch, as the student's
            still = dataclasses.replace(vit, dropout=0.0, drop_path=0.0)
            teacher = nn.Sequential(build_model(name, image_shape, 0, still), self.method.projector(features, heads))
            teacher.load_state_dict(nn.Sequential(self.encoder, self.projector).state_dict())
            self.teacher = teacher.requires_grad_(False)
        self.criterion = self.method.criterion(heads, options)

    def forward(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the method's loss compares.

        Args:
            views: transformed images `[B, C, H, W]` each, the two large ones first. They go through one by one, so that
                batch norms see one kind of view at a time, as in the papers.

        Returns:
            "student" `[V, B, D]` (of the predictor if there is one) and, of the two large views and without gradients,
            "teacher" `[2, B, D]` if there is one.
        """
        projections = [self.projector(self.encoder(view)) for view in views]
        student = projections if self.predictor is None else [self.predictor(value) for value in projections]
        outputs = {"student": torch.stack(student)}
        if self.teacher is not None:
            with torch.no_grad():
                outputs["teacher"] = torch.stack([self.teacher(view) for view in views[:2]])
        elif self.heads.teacher == "self":
            outputs["teacher"] = torch.stack(projections[:2]).detach()
        return outputs

    def features(self, images: Tensor) -> Tensor:
        """The encoder's features `[B, F]` of transformed images `[B, C, H, W]`."""
        return self.encoder(images)

    def project(self, images: Tensor) -> Tensor:
        """Projections `[B, D]` of transformed images `[B, C, H, W]`, as the loss compares them."""
        projections = self.projector(self.encoder(images))
        compared = self.method.compared
        return projections if compared is None else compared(projections, self.options)

    def move_teacher(self, momentum: float) -> None:
        """The teacher's weights become `momentum` times themselves and the rest of the student's."""
        if self.teacher is not None:
            follow(self.teacher.parameters(), (*self.encoder.parameters(), *self.projector.parameters()), momentum)


def _features(encoder: nn.Module, image_shape: ImageShape) -> int:
    training = encoder.training
    with torch.no_grad():
        width = encoder.eval()(torch.zeros(1, *image_shape)).shape[1]
    encoder.train(training)
    return width


def restore(about: Mapping[str, Any]) -> SelfSupervised:
    """The model that a checkpoint of `trainers.ssl` describes, its weights not loaded yet.

    Raises:
        CheckpointError: another trainer's.
    """
    if about.get("trainer") != "ssl":
        raise CheckpointError(f"the checkpoint is by trainers.{about.get('trainer')}, not by trainers.ssl.")
    return build(about["model"])


def build(model: Mapping[str, Any]) -> SelfSupervised:
    """The model that `about["model"]` of a checkpoint describes, newly initialised."""
    channels, height, width = model["image_shape"]
    return SelfSupervised(
        model["name"],
        (channels, height, width),
        ViTConfig(**model["vit"]),
        model["method"],
        Heads(**model["heads"]),
        model["options"],
    )
