"""Which kind of dark matter is in a lens: `python -m trainers.classify --stream [--encoder runs/mae_001]`.

A pretrained encoder or a new network is fine-tuned, or stays frozen under a linear layer or a nearest-neighbour vote
(arXiv 2512.06642; the protocols of He et al. 2021, arXiv 2111.06377). The best checkpoint on the validation images is
then judged, once, on test images. `--evaluate-only RUN` judges a saved one on others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from trainers.checkpoint import Checkpoint, load_weights, read_checkpoint, write_checkpoint
from trainers.classify_evaluation import NO_STORED_DETECTABILITY, evaluate
from trainers.classify_only import asks_to_evaluate_only, evaluate_only
from trainers.command_line import as_recipe, exit_with_message, parse, save_config
from trainers.config import require
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws
from trainers.errors import ConfigError, OutputError
from trainers.finetune import FinetuneConfig, Origin, begin, describe, finetune, open_origin
from trainers.frozen import FrozenImages
from trainers.logs import write_json
from trainers.loop import Loop
from trainers.metrics import class_aucs, with_mean
from trainers.models.classifier import (
    Method,
    NearestNeighbours,
    build_classifier,
    predict,
    probabilities_and_logits,
    restore,
)
from trainers.models.encoders import Encoder
from trainers.seen import IndexSet
from trainers.session import claim_folder, launch, say_how_to_resume
from trainers.views import augmented, require_square

__all__ = ["ClassifyConfig", "ClassifyTask", "main", "predict", "prediction_options", "restore"]

KNN_IS_ONE_PROCESS = "--method knn takes no training steps: run it on one device, without --resume."


@dataclass(frozen=True)
class ClassifyConfig(FinetuneConfig):
    """Learn to tell the classes of lenses apart, and test it on lenses that were never seen."""

    method: Method = "finetune"
    """Train everything, a linear layer on frozen features, or nothing: a vote of the nearest of validation.fit images
    of training."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, 0 to 0.9."""
    average_d4: bool = False
    """Test on the mean of the probabilities of the eight rotations and reflections of an image."""
    detectability: int = 0
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""
    evaluate_only: Path | None = None
    """Test this run, or checkpoint, of trainers.classify on the images given, and train nothing; --help beside it lists
    what may be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("label_smoothing", self.label_smoothing, 0, 0.9)
        require("detectability", self.detectability, 0)
        if self.method == "knn" and (self.run.devices > 1 or self.resume is not None):
            raise ConfigError(KNN_IS_ONE_PROCESS)
        if self.method == "knn" and self.data.images is not None and self.data.images < self.validation.fit:
            raise ConfigError(
                f"--method knn remembers --validation.fit {self.validation.fit} images of training, and --images "
                f"{self.data.images} leaves fewer; lower --validation.fit or raise --images."
            )
        if self.detectability and self.data.data is not None:
            raise ConfigError(NO_STORED_DETECTABILITY)


class ClassifyTask:
    """Trains a classifier by cross entropy; judges it by AUC and accuracy.

    Args:
        config: with the options of the encoder.
        origin: what it begins with; where a run is gone on with the model is built as it was.

    Attributes:
        selects: the checkpoint of the greatest macro AUC is the best.
        data: with the transform of the encoder, if there is one.
    """

    selects = "+macro_auc"

    def __init__(
        self,
        config: ClassifyConfig,
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
        description = self._description(data, origin.encoder) if saved is None else saved["model"]
        self.model, transform = begin(
            config, data, device, lambda pretrained: build_classifier(description, pretrained), origin
        )
        self.data = dataclasses.replace(data, transform=transform)
        self.about: dict[str, Any] = {
            "trainer": "classify",
            "model": description,
            "transform": transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        # no label of them was learnt from, so that all can score
        self._held_out = torch.cat([data.fit.image, data.score.image])
        self._held_out_label = torch.cat([data.fit.label, data.score.label])

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Cross entropy of a batch, whose images are augmented as `draws` says."""
        images = augmented(batch.image, self.data.transform, self.config.augment, draws)
        return functional.cross_entropy(forward(images), batch.label, label_smoothing=self.config.label_smoothing)

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
        return evaluate(
            self.model,
            self.data.transform,
            FrozenImages.held_out(self.data),
            self.data.class_names,
            folder,
            {"checkpoint": str(checkpoint.path), "step": checkpoint.about["step"], "method": self.config.method},
            self.config.average_d4,
            self.config.detectability,
        )

    def _description(self, data: Data, encoder: Encoder | None) -> dict[str, Any]:
        """What `build_classifier` needs to know, and a checkpoint says."""
        config = self.config
        description = describe(config, data, encoder)
        description |= {"classes": len(data.class_names), "method": config.method}
        if config.method == "knn":
            description |= {"images": config.validation.fit, "neighbours": config.validation.neighbours}
        return description


def prediction_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `predict` needs to know of a checkpoint to do as its run was tested."""
    return {"average_d4": about["config"]["average_d4"]}


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    prog = "python -m trainers.classify"
    if asks_to_evaluate_only(argv):
        return evaluate_only(argv, prog)
    recipe = "classify_gpu" if torch.cuda.is_available() else "classify_cpu"
    config = parse(ClassifyConfig, recipe, argv, prog)
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        if config.method == "knn" and fabric.world_size > 1:  # torchrun started them
            raise ConfigError(KNN_IS_ONE_PROCESS)
        config = claim_folder(config, "classify", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
        )
        config, origin = open_origin(config, data, checkpoint)
        task = ClassifyTask(config, data, fabric.device, origin)
        task.about |= origin.about
        if config.method == "knn":
            try:
                remember(config, task, fabric)
            except OSError as error:
                raise OutputError(
                    f"the run's output in {config.run.out} could not be written: {error}. Make room or mend this, then "
                    "start it again with another --out."
                ) from error
            return 0
        loop = Loop(fabric, task, data.source, config)
        finetune(loop, task, data, checkpoint)
    except KeyboardInterrupt:
        say_how_to_resume("trainers.classify", loop, config.resume)
        return 130
    return 0


def remember(config: ClassifyConfig, task: ClassifyTask, fabric: Fabric) -> None:
    """All that the method knn does: remembers training images, writes a checkpoint, is tested, writes its summary."""
    assert isinstance(task.model, NearestNeighbours) and config.run.out is not None
    folder, missing, batches = config.run.out, config.validation.fit, []
    for batch in task.data.source:
        batches.append((batch.image[:missing], batch.label[:missing], batch.index[:missing]))
        missing -= len(batches[-1][0])
        if not missing:
            break
    image, label, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    task.model.eval()
    task.model.remember(task.data.transform(image), label)
    seen = IndexSet()
    seen.add(index.cpu().numpy())
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder)
    about = {**task.about, "config": as_recipe(config), "seen": seen.intervals(), "best": None}
    nothing = torch.optim.SGD([torch.zeros(1)])  # a checkpoint has an optimizer's state; this one is empty
    path = write_checkpoint(folder, 0, task.model, nothing, about, config.run.keep)
    summary = {
        "steps": 0,
        "images_seen": len(index),
        "images_distinct": len(seen),
        "images_repeated": len(index) - len(seen),
        "device": str(fabric.device),
        "data": task.data.identity,
        "classes": list(task.data.class_names),
        "trained": task.validate(),
        "checkpoint": str(path),
        "figures": [str(file) for file in task.test(folder, read_checkpoint(path))],
    }
    write_json(folder / "summary.json", summary)
    print(f"\n{len(index):,} images remembered; checkpoint {path}")


if __name__ == "__main__":
    exit_with_message(main)
