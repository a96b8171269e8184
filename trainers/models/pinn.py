"""LensPINN and Lensformer with all their options, as checkpoints of `trainers.pinn` describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.errors import CheckpointError
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import CNNS, LensPINN


def build_pinn(model: Mapping[str, Any]) -> LensPINN | Lensformer:
    """The classifier that a checkpoint's `about["model"]` describes, newly initialised.

    Args:
        model: `name`, `image_shape`, `classes`, and `options`, those of `LensPINN` or `Lensformer`.
    """
    channels, height, width = model["image_shape"]
    shape = (channels, height, width)
    if model["name"] == "lensformer":
        return Lensformer(shape, model["classes"], **model["options"])
    return LensPINN(shape, model["classes"], CNNS[model["name"]], **model["options"])


def restore(about: Mapping[str, Any]) -> LensPINN | Lensformer:
    """The bare model of a checkpoint of `trainers.pinn`; its weights are not loaded yet.

    Raises:
        CheckpointError: another trainer's.
    """
    if about.get("trainer") != "pinn":
        raise CheckpointError(
            f"the checkpoint is by trainers.{about.get('trainer')}, not by trainers.pinn. Give one of a run of "
            "trainers.pinn, or open this one by trainers.load, which takes those of all trainers."
        )
    return build_pinn(about["model"])
