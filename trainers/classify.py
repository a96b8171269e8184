"""Which kind of dark matter is in a lens: `python -m trainers.classify --stream [--encoder runs/mae_001]`.

A pretrained encoder or a new network is fine-tuned, or stays frozen under a linear layer or a nearest-neighbour vote
(arXiv 2512.06642; the protocols of He et al. 2021, arXiv 2111.06377). The best checkpoint on the validation images is
then judged, once, on test images. `--evaluate-only RUN` judges a saved one on others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from trainers.checkpoint import read_checkpoint, write_checkpoint
from trainers.classification import ClassificationConfig, ClassificationTask, prediction_options
from trainers.classify_only import asks_to_evaluate_only, evaluate_only
from trainers.command_line import as_recipe, exit_with_message, parse, save_config
from trainers.data import Data, open_data
from trainers.errors import ConfigError, OutputError
from trainers.finetune import finetune, open_origin
from trainers.logs import write_json
from trainers.loop import Loop
from trainers.models.classifier import Method, NearestNeighbours, predict, restore
from trainers.models.encoders import Encoder
from trainers.seen import IndexSet
from trainers.session import claim_folder, launch, say_how_to_resume

__all__ = ["ClassifyConfig", "ClassifyTask", "main", "predict", "prediction_options", "restore"]

KNN_IS_ONE_PROCESS = "--method knn takes no training steps: run it on one device, without --resume."


@dataclass(frozen=True)
class ClassifyConfig(ClassificationConfig):
    """Learn to tell the classes of lenses apart, and test it on lenses that were never seen."""

    method: Method = "finetune"
    """Train everything, a linear layer on frozen features, or nothing: a vote of the nearest of validation.fit images
    of training."""
    evaluate_only: Path | None = None
    """Test this run, or checkpoint, of trainers.classify on the images given, and train nothing; --help beside it lists
    what may be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "knn" and (self.run.devices > 1 or self.resume is not None):
            raise ConfigError(KNN_IS_ONE_PROCESS)
        if self.method == "knn" and self.data.images is not None and self.data.images < self.validation.fit:
            raise ConfigError(
                f"--method knn remembers --validation.fit {self.validation.fit} images of training, and --images "
                f"{self.data.images} leaves fewer; lower --validation.fit or raise --images."
            )


class ClassifyTask(ClassificationTask[ClassifyConfig]):
    """A `ClassificationTask` by one of several methods."""

    trainer = "classify"

    def description(self, data: Data, encoder: Encoder | None) -> dict[str, Any]:
        config = self.config
        own = super().description(data, encoder) | {"method": config.method}
        if config.method == "knn":
            own |= {"images": config.validation.fit, "neighbours": config.validation.neighbours}
        return own


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
