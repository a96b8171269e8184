"""Which kind of dark matter is in a lens: `python -m trainers.classify --stream [--encoder runs/mae_001]`.

A pretrained encoder or a new network is fine-tuned, or stays frozen under a linear layer or a nearest-neighbour vote
(arXiv 2512.06642; the protocols of He et al. 2021, arXiv 2111.06377). The best checkpoint on the validation images is
then judged, once, on test images. `--evaluate-only RUN` judges a saved one on others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from trainers.config import TrainerConfig, require
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws, key_of
from trainers.errors import ConfigError, OutputError
from trainers.export import export_encoder
from trainers.frozen import FrozenImages
from trainers.logs import write_json
from trainers.loop import Loop
from trainers.metrics import class_aucs, with_mean
from trainers.models.classifier import (
    LinearProbe,
    Method,
    NearestNeighbours,
    build_classifier,
    predict,
    probabilities_and_logits,
    restore,
    take_encoder,
)
from trainers.models.masked_autoencoder import encoder_config, load_encoder
from trainers.models.registry import OWN
from trainers.models.vit import ViTConfig
from trainers.seen import IndexSet
from trainers.session import claim_folder, launch, say_how_to_resume, train
from trainers.summary import write_summary
from trainers.unseen import pretraining
from trainers.views import Augmentation, augmented, require_square

__all__ = ["ClassifyConfig", "ClassifyTask", "main", "predict", "restore"]

KNN_IS_ONE_PROCESS = "--method knn takes no training steps: run it on one device, without --resume."


@dataclass(frozen=True)
class ClassifyConfig(TrainerConfig):
    """Learn to tell the classes of lenses apart, and test it on lenses that were never seen."""

    encoder: Path | None = None
    """A run of trainers.mae, or one of its checkpoints: its weights, its --vit.* and its input transform are taken."""
    model: str | None = None
    """In place of an encoder a new network: vit (as --vit.* says; the default) or a name of timm's, e.g. resnet18."""
    pretrained: bool = False
    """Start a timm model from timm's weights, of photographs."""
    method: Method = "finetune"
    """Train everything, a linear layer on frozen features, or nothing: a vote of the nearest of validation.fit images
    of training."""
    augment: Augmentation = "none"
    """Show each image in one of its eight rotations and reflections (d4), drawn anew at every step."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, 0 to 0.9."""
    average_d4: bool = False
    """Test on the mean of the probabilities of the eight rotations and reflections of an image."""
    detectability: int = 0
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""
    evaluate_only: Path | None = None
    """Test this run, or checkpoint, of trainers.classify on the images given, and train nothing; --help beside it lists
    what may be given."""
    vit: ViTConfig = field(default_factory=ViTConfig)

    def __post_init__(self) -> None:
        require("label_smoothing", self.label_smoothing, 0, 0.9)
        require("detectability", self.detectability, 0)
        if self.encoder is not None and self.model is not None:
            raise ConfigError(
                f"--encoder {self.encoder} and --model {self.model} were both given; give one of the two."
            )
        if self.encoder is not None and self.pretrained:
            raise ConfigError("--pretrained loads timm's weights, --encoder other ones; leave one of the two out.")
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
        saved: what the checkpoint says that training goes on from; the model is then built as it was.

    Attributes:
        selects: the checkpoint of the greatest macro AUC is the best.
        data: with the transform of the encoder, if there is one.
    """

    selects = "+macro_auc"

    def __init__(
        self, config: ClassifyConfig, data: Data, device: torch.device, saved: Mapping[str, Any] | None = None
    ) -> None:
        if len(data.class_names) < 2:
            raise ConfigError(f"these images are all of class {data.class_names[0]}; a classifier needs two or more.")
        if config.augment == "d4" or config.average_d4:
            require_square(data.image_shape)
        self.config = config
        encoder, transform = None, data.transform
        if config.encoder is not None and saved is None:
            encoder, transform = load_encoder(config.encoder)
        description = self._description(data) if saved is None else saved["model"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(config.data.seed, "weights"))
            self.model = build_classifier(description, config.pretrained and saved is None)
        if encoder is not None:
            take_encoder(self.model, encoder)
        self.model.to(device)
        if saved is not None:
            transform = type(transform).from_json(saved["transform"])
        elif isinstance(self.model, LinearProbe):
            self.model.standardise(transform(data.fit.image))
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
        """Cross entropy of a batch, whose images are turned and mirrored as `draws` says."""
        images = augmented(self.data.transform(batch.image), self.config.augment, draws)
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

    def export(self, folder: Path, step: int) -> Path | None:
        """Writes the fine-tuned encoder for timm; None for one that was not trained, or is none of timm's."""
        model = self.about["model"]
        if self.config.method != "finetune" or (model["name"] in OWN and model["name"] != "vit"):
            return None
        vit, shape = ViTConfig(**model["vit"]), self.data.image_shape
        return export_encoder(folder, self.model, model["name"], vit, shape, self.about, step)

    def _description(self, data: Data) -> dict[str, Any]:
        """What `build_classifier` needs to know, and a checkpoint says."""
        config, vit = self.config, self.config.vit
        if config.encoder is not None:
            vit, shape = encoder_config(config.encoder)
            if shape != data.image_shape:
                raise ConfigError(
                    f"--encoder {config.encoder} was trained on images of {shape}, these are {data.image_shape}; "
                    "give it such images, e.g. by --set grid.size=64, or pretrain one on these."
                )
            vit = dataclasses.replace(vit, dropout=config.vit.dropout, drop_path=config.vit.drop_path)
        description: dict[str, Any] = {
            "name": config.model or "vit",
            "image_shape": list(data.image_shape),
            "classes": len(data.class_names),
            "vit": dataclasses.asdict(vit),
            "method": config.method,
        }
        if config.method == "knn":
            description |= {"images": config.validation.fit, "neighbours": config.validation.neighbours}
        return description


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
        saved = None if checkpoint is None else checkpoint.about
        origin = pretraining(config.encoder, data, saved)
        if config.encoder is not None and checkpoint is None:  # what the run saves of itself is what it has
            own = dataclasses.asdict(encoder_config(config.encoder)[0])
            kept = {"dropout": config.vit.dropout, "drop_path": config.vit.drop_path}
            config = dataclasses.replace(config, vit=ViTConfig(**(own | kept)))
        task = ClassifyTask(config, data, fabric.device, saved)
        task.about |= origin
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
        train(loop, checkpoint)
        if fabric.is_global_zero:
            best = read_checkpoint(loop.best)
            with loop.writing():
                figures = task.test(loop.folder, best)
                task.export(loop.folder, best.about["step"])
            write_summary(loop, data, figures)
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
