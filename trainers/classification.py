"""What trainers have in common that learn the classes of lenses: options, loss, validation, and the test at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.checkpoint import Checkpoint, load_weights
from trainers.classify_evaluation import NO_STORED_DETECTABILITY, evaluate
from trainers.config import require
from trainers.data import Batch, Data
from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.finetune import FinetuneConfig, Origin, begin, describe
from trainers.frozen import FrozenImages
from trainers.metrics import class_aucs, with_mean
from trainers.models.classifier import build_classifier, probabilities_and_logits
from trainers.models.encoders import Encoder
from trainers.views import augmented, require_square

Config = TypeVar("Config", bound="ClassificationConfig")


@dataclass(frozen=True)
class ClassificationConfig(FinetuneConfig):
    """The options of all such trainers."""

    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, 0 to 0.9."""
    average_d4: bool = False
    """Test on the mean of the probabilities of the eight rotations and reflections of an image."""
    detectability: int = 0
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("label_smoothing", self.label_smoothing, 0, 0.9)
        require("detectability", self.detectability, 0)
        if self.detectability and self.data.data is not None:
            raise ConfigError(NO_STORED_DETECTABILITY)


class ClassificationTask(Generic[Config]):
    """Trains a classifier by cross entropy; judges it by AUC and accuracy.

    Args:
        config: with the options of the encoder.
        origin: what it begins with; where a run is gone on with the model is built as it was.

    Attributes:
        trainer: its name, without `trainers.`.
        selects: the checkpoint of the greatest macro AUC is the best.
        data: with the transform of the encoder, if there is one.
    """

    trainer: ClassVar[str]
    selects = "+macro_auc"

    def __init__(
        self,
        config: Config,
        data: Data,
        device: torch.device,
        origin: Origin,
    ) -> None:
        if len(data.class_names) < 2:
            raise ConfigError(f"these images are all of class {data.class_names[0]}; a classifier needs two or more.")
        if config.augment == "d4" or config.average_d4:
            require_square(data.image_shape)
        self.config = config
        saved = origin.saved
        description = self.description(data, origin.encoder) if saved is None else saved["model"]
        self.model, transform = begin(
            config, data, device, lambda pretrained: self.build(description, pretrained), origin
        )
        self.data = dataclasses.replace(data, transform=transform)
        self.about: dict[str, Any] = {
            "trainer": self.trainer,
            "model": description,
            "transform": transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        # no label of them was learnt from, so that all can score
        self._held_out = torch.cat([data.fit.image, data.score.image])
        self._held_out_label = torch.cat([data.fit.label, data.score.label])

    def description(self, data: Data, encoder: Encoder | None) -> dict[str, Any]:
        """What `build` needs to know, and a checkpoint says."""
        own = describe(self.config, data, encoder)
        return own | {"classes": len(data.class_names), "method": "finetune"}

    def build(self, description: Mapping[str, Any], pretrained: bool) -> nn.Module:
        """The model of a `description`, newly initialised, with timm's weights if it is told so."""
        return build_classifier(description, pretrained)

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Cross entropy of a batch, whose images are augmented as `draws` says."""
        return self.cross_entropy(forward(self.shown(batch, draws)), batch)

    def shown(self, batch: Batch, draws: Draws) -> Tensor:
        """What a step shows of the images of a batch: transformed and augmented."""
        return augmented(batch.image, self.data.transform, self.config.augment, draws)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Of a batch, with its labels smoothed; a scalar."""
        return functional.cross_entropy(logits, batch.label, label_smoothing=self.config.label_smoothing)

    def validate(self) -> dict[str, float]:
        """`macro_auc`, `accuracy` (micro) and cross entropy `loss` of all validation images."""
        images, label = self.data.transform(self._held_out), self._held_out_label
        probabilities, logits = probabilities_and_logits(self.model, images)
        return {
            "macro_auc": float(with_mean(class_aucs(probabilities, label))[-1]),
            "accuracy": float((probabilities.argmax(dim=1) == label).float().mean()),
            "loss": float(functional.cross_entropy(logits, label)),
        }

    def test(self, folder: Path, checkpoint: Checkpoint) -> list[Path]:
        """Judges a checkpoint's weights on the test images; writes `metrics.json` and figures; returns the figures."""
        load_weights(self.model, checkpoint)
        return self.evaluate(folder, checkpoint)

    def evaluate(self, folder: Path, checkpoint: Checkpoint, more: Mapping[str, Any] | None = None) -> list[Path]:
        """`test` of the model as it is, whose weights are those of the checkpoint.

        Args:
            more: what `metrics.json` says beside.
        """
        method = self.about["model"]["method"]
        about = {"checkpoint": str(checkpoint.path), "step": checkpoint.about["step"], "method": method}
        return evaluate(
            self.model,
            self.data.transform,
            FrozenImages.held_out(self.data),
            self.data.class_names,
            folder,
            about | dict(more or {}),
            self.config.average_d4,
            self.config.detectability,
        )


def prediction_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `predict` needs to know of a checkpoint to do as its run was tested."""
    return {"average_d4": about["config"]["average_d4"]}
