"""Pretrained encoders, whatever trainer and model they are of: what `--encoder` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from trainers.checkpoint import best_or_newest, load_weights, read_checkpoint
from trainers.errors import CheckpointError
from trainers.models.registry import ImageShape, build_model
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform

# By trainer, what the names of the encoder's weights begin with in its checkpoints. A trainer that pretrains is a line
# here; its `about["model"]` says `image_shape`, `vit` and, unless it is a ViT, `name`.
PREFIXES = {
    "mae": "encoder.vit.",
    "ssl": "encoder.",
    "jepa": "target.",
}


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder.

    Attributes:
        module: images `[B, C, H, W]` that went through `transform` -> pooled features `[B, D]`: what
            `build_model(name, image_shape, 0, vit)` makes, on the CPU and in evaluation mode.
        transform: of its inputs.
        name: of the model, in the registry or timm.
        vit: its options `--vit.*`.
        image_shape: `(C, H, W)` of the images that it takes.
        path: of its checkpoint.
        about: what its checkpoint says of itself.
    """

    module: nn.Module
    transform: InputTransform
    name: str
    vit: ViTConfig
    image_shape: ImageShape
    path: Path
    about: Mapping[str, Any]


def load_encoder(path: Path) -> Encoder:
    """The encoder of a pretraining run.

    Args:
        path: a run's folder, of which the best checkpoint is taken, or one of its checkpoints.

    Raises:
        CheckpointError: it is missing, damaged, or of a trainer that pretrains nothing.
    """
    checkpoint = read_checkpoint(best_or_newest(path))
    trainer = checkpoint.about.get("trainer")
    if trainer not in PREFIXES:
        known = " or ".join(f"trainers.{name}" for name in PREFIXES)
        raise CheckpointError(f"{checkpoint.path} is by trainers.{trainer}; give a run of {known}.")
    model, prefix = checkpoint.about["model"], PREFIXES[trainer]
    name, vit = model.get("name", "vit"), ViTConfig(**model["vit"])
    channels, height, width = model["image_shape"]
    shape = (channels, height, width)
    module = build_model(name, shape, 0, vit)
    weights = {key.removeprefix(prefix): own for key, own in checkpoint.weights.items() if key.startswith(prefix)}
    load_weights(module, dataclasses.replace(checkpoint, weights=weights))
    transform = InputTransform.from_json(checkpoint.about["transform"])
    return Encoder(module.eval(), transform, name, vit, shape, checkpoint.path, checkpoint.about)
