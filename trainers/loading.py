"""A trained model from its run: `model, transform = trainers.load("runs/classify_001")`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainers.checkpoint import best_or_newest, load_weights, read_checkpoint
from trainers.data import Batch
from trainers.errors import CheckpointError
from trainers.transform import InputTransform

# Each is a module with `restore(about)` and `predict(model, transform, image)`, and with `prediction_options(about)` if
# its `predict` has more arguments; by name, so that loading one does not import the others.
TRAINERS = ("mae", "ssl", "jepa", "classify", "regress", "superres", "pinn")
_AT_A_TIME = 250


class Predictor(nn.Module):
    """A trained model with all that is needed to use it: on its device, in eval mode.

    Attributes:
        module: the bare network, whose inputs are transformed images.
        transform: of the inputs.
        about: what the checkpoint says of itself: trainer, data, class_names, config, ...
    """

    def __init__(self, trainer: ModuleType, module: nn.Module, transform: InputTransform, about: dict) -> None:
        super().__init__()
        self._predict, self.module, self.transform, self.about = trainer.predict, module, transform, about
        self._options = trainer.prediction_options(about) if hasattr(trainer, "prediction_options") else {}
        self.eval()

    def predict(self, batch: Batch | Tensor) -> Tensor:
        """What the model makes of images, transform included, a few hundred at a time and without gradients.

        Args:
            batch: of `lensgen`, or images `[B, C, H, W]` in the units of those that it was trained on.

        Returns:
            Of `trainers.mae`, `trainers.ssl` and `trainers.jepa` features `[B, D]`, of `trainers.classify` and
            `trainers.pinn` probabilities `[B, K]` of the classes `about["class_names"]` (after `--average-d4` the
            mean over an image's eight symmetries, as the run was tested), of `trainers.regress` mean and deviation of
            each target `[B, T, 2]` (of its log10 where `trainers.targets` says so), of `trainers.superres` images
            `[B, C, f H, f W]`; on the model's device.

        Raises:
            ValueError: images of another shape than the model's.
        """
        images = batch if isinstance(batch, Tensor) else batch.image
        expected = tuple(self.about["model"]["image_shape"])
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"the images are {list(images.shape)}; this model takes [B, {str(list(expected))[1:]}.")
        device = next(self.module.parameters()).device
        with torch.no_grad():
            return torch.cat(
                [
                    self._predict(self.module, self.transform, part.to(device), **self._options)
                    for part in images.split(_AT_A_TIME)
                ]
            )


class Loaded(NamedTuple):
    """What `load` gives."""

    model: Predictor
    transform: InputTransform


def load(path: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """The model of a run and the transform of its inputs; nothing in the files is unpickled.

    Args:
        path: a run's folder, of which the best checkpoint is taken (by the figure on which the trainer selects), or
            one of its checkpoints.

    Raises:
        CheckpointError: it is missing, damaged or of no trainer that is known here.
    """
    checkpoint = read_checkpoint(best_or_newest(Path(path)))
    name = checkpoint.about.get("trainer")
    if name not in TRAINERS:
        raise CheckpointError(f"{checkpoint.path} is by trainers.{name}; known: {', '.join(TRAINERS)}.")
    trainer = import_module(f"trainers.{name}")
    module = trainer.restore(checkpoint.about)
    load_weights(module, checkpoint)
    transform = InputTransform.from_json(checkpoint.about["transform"])
    return Loaded(Predictor(trainer, module.to(device), transform, checkpoint.about), transform)
