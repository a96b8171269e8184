"""What trainers have in common that begin with an encoder, pretrained or new, and put an output layer on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from trainers.checkpoint import Checkpoint, read_checkpoint
from trainers.config import TrainerConfig
from trainers.data import Data
from trainers.draws import key_of
from trainers.errors import ConfigError
from trainers.export import export_encoder
from trainers.loop import Loop
from trainers.models.encoders import Encoder, load_encoder
from trainers.models.heads import LinearProbe, take_encoder
from trainers.models.registry import OWN
from trainers.models.vit import ViTConfig
from trainers.session import train
from trainers.summary import write_summary
from trainers.task import Task
from trainers.transform import InputTransform
from trainers.unseen import pretraining
from trainers.views import Augmentation

Config = TypeVar("Config", bound="FinetuneConfig")


@dataclass(frozen=True)
class FinetuneConfig(TrainerConfig):
    """The options of all such trainers."""

    encoder: Path | None = None
    """A run of trainers.mae, ssl or jepa, or one of its checkpoints: its model with its weights, its --vit.* and its
    input transform are taken."""
    model: str | None = None
    """In place of an encoder a new network: vit (as --vit.* says; the default), vit_conv or vit_spt (the same with a
    convolutional stem, or with shifted patches and locality attention), cnn, one of the papers' (lenspinn_small,
    lenspinn_large, lensformer, lens_jepa, vitsd, cait, cvt, vit_paper), or a name of timm's, e.g. resnet18."""
    pretrained: bool = False
    """Start a timm model from timm's weights, of photographs."""
    augment: Augmentation = "none"
    """Show each image as it is (none), in one of its eight rotations and reflections (d4), or as that method of
    trainers.ssl shows it; drawn anew at every step."""
    vit: ViTConfig = field(default_factory=ViTConfig)

    def __post_init__(self) -> None:
        if self.encoder is not None and self.model is not None:
            raise ConfigError(
                f"--encoder {self.encoder} and --model {self.model} were both given; give one of the two."
            )
        if self.encoder is not None and self.pretrained:
            raise ConfigError("--pretrained loads timm's weights, --encoder other ones; leave one of the two out.")


class FinetuneTask(Task, Protocol):
    """What `finetune` trains."""

    def test(self, folder: Path, checkpoint: Checkpoint) -> list[Path]:
        """Judges a checkpoint on the test images, writes what it found into `folder`; returns the figures."""
        ...


@dataclass(frozen=True)
class Origin:
    """What a run begins with.

    Attributes:
        encoder: whose weights and input transform are taken; None for a new network, and where a run is gone on with.
        saved: what the checkpoint says that a run goes on from; None for a new one.
        about: for the checkpoints of the run: what the encoder was pretrained on.
    """

    encoder: Encoder | None
    saved: Mapping[str, Any] | None
    about: dict[str, Any]


def open_origin(config: Config, data: Data, checkpoint: Checkpoint | None) -> tuple[Config, Origin]:
    """Reads what `--encoder` names, if it is needed; returns `config` with the encoder's `--vit.*` too.

    Raises:
        ConfigError: no such encoder, or it was pretrained on images that are held out here.
    """
    saved = None if checkpoint is None else checkpoint.about
    encoder = None if config.encoder is None or saved is not None else load_encoder(config.encoder)
    origin = Origin(encoder, saved, pretraining(encoder, data, saved))
    return with_options_of(config, encoder), origin


def finetune(loop: Loop, task: FinetuneTask, data: Data, checkpoint: Checkpoint | None) -> None:
    """Trains, from `checkpoint` on, tests the best weights, exports the encoder and writes the summary."""
    train(loop, checkpoint)
    if loop.fabric.is_global_zero:
        best = read_checkpoint(loop.best)
        with loop.writing():
            figures = task.test(loop.folder, best)
            export_finetuned(loop.folder, task.model, best.about)
        write_summary(loop, data, figures)


def with_options_of(config: Config, encoder: Encoder | None) -> Config:
    """`config` with the `--vit.*` of the encoder but for what is dropped: what a run saves of itself is what it has."""
    if encoder is None:
        return config
    vit = dataclasses.replace(encoder.vit, dropout=config.vit.dropout, drop_path=config.vit.drop_path)
    return dataclasses.replace(config, vit=vit)


def describe(config: FinetuneConfig, data: Data, encoder: Encoder | None) -> dict[str, Any]:
    """`name`, `image_shape` and `vit` of the network, as `build_with_head` needs them and a checkpoint has them.

    Args:
        config: with the options of the encoder.

    Raises:
        ConfigError: the encoder takes other images.
    """
    if encoder is not None and encoder.image_shape != data.image_shape:
        raise ConfigError(
            f"--encoder {config.encoder} was trained on images of {encoder.image_shape}, these are "
            f"{data.image_shape}; give it such images, e.g. by --set grid.size=64, or pretrain one on these."
        )
    name = encoder.name if encoder is not None else config.model or "vit"
    return {"name": name, "image_shape": list(data.image_shape), "vit": dataclasses.asdict(config.vit)}


def begin(
    config: FinetuneConfig,
    data: Data,
    device: torch.device,
    build: Callable[[bool], nn.Module],
    origin: Origin,
) -> tuple[nn.Module, InputTransform]:
    """The model that training begins with, on the device, and the transform of its inputs.

    Args:
        build: makes the model, newly initialised, with timm's weights if it is told so.
        origin: of a run that is gone on with the weights are loaded later.
    """
    encoder, saved = origin.encoder, origin.saved
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(config.data.seed, "weights"))
        model = build(config.pretrained and saved is None)
    if saved is not None:
        return model.to(device), InputTransform.from_json(saved["transform"])
    transform = data.transform
    if encoder is not None:
        take_encoder(model, encoder.module)
        transform = encoder.transform
    model.to(device)
    if isinstance(model, LinearProbe):
        model.standardise(transform(data.fit.image))
    return model, transform


def export_finetuned(folder: Path, model: nn.Module, about: Mapping[str, Any]) -> Path | None:
    """Writes the fine-tuned encoder for timm; None for one that was not trained, or is none of timm's.

    Args:
        folder: of the run.
        model: with the weights of the checkpoint.
        about: what the checkpoint says of itself.
    """
    own = about["model"]
    name, shape = own["name"], own["image_shape"]
    if own["method"] != "finetune" or (name in OWN and name != "vit"):
        return None
    vit = ViTConfig(**own["vit"])
    return export_encoder(folder, model, name, vit, (shape[0], shape[1], shape[2]), about, about["step"])
