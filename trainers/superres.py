"""Super-resolution of lenses: `python -m trainers.superres --stream --task 16to64 [--encoder RUN]`.

A ViT, new or pretrained by trainers.mae, reads the low-resolution image; a decoder corrects its bicubic up-sampling
(arXiv 2512.06642). Pairs come from the simulator's optics or from down-sampling (trainers/image_pairs.py). Losses, PSNR
and SSIM are of linear flux in units of one data range: the median peak of the high-resolution validation images, kept
in the checkpoint. In paper mode (`--input-transform minmax`) each pair is scaled by the least and greatest pixel of its
low-resolution image, the only one that is known when the other is predicted; papers scale each image by its own, so the
test is scored in their convention too. `--help` lists the options.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import lensgen
from trainers.checkpoint import Checkpoint, load_weights, read_checkpoint
from trainers.command_line import exit_with_message, load_config, parse, run_folder, values
from trainers.config import TrainerConfig
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws, key_of
from trainers.errors import ConfigError
from trainers.image_metrics import image_scores
from trainers.image_pairs import DownsampleName, LowName, Pairs, TaskName
from trainers.loop import Loop
from trainers.models.encoders import Encoder, load_encoder
from trainers.models.superresolution import Entry, FluxUnits, SuperDecoderConfig, SuperResolver, predict, restore
from trainers.models.vit import ViTConfig
from trainers.session import claim_folder, launch, say_how_to_resume, train
from trainers.summary import write_summary
from trainers.superres_evaluation import (
    description,
    enlarge,
    evaluate,
    score_tables,
    with_data_of_run,
    write_metrics,
)
from trainers.superres_figures import draw_enlargements, draw_training
from trainers.transform import InputTransform
from trainers.unseen import pretraining

__all__ = ["SuperresConfig", "SuperresTask", "main", "predict", "restore"]


OF_EVALUATION = {"evaluate_only", "config", "stream", "data", "preset", "set", "out", "accelerator", "devices",
                 "validation.test", "resume", "precision", "workers"}  # fmt: skip


@dataclass(frozen=True)
class SuperresConfig(TrainerConfig):
    """Train super-resolution: from a low-resolution image of a lens, the high-resolution one."""

    task: TaskName = "16to64"
    """Sides of the two images [pixels]."""
    low: LowName = "optics"
    """Where low resolution comes from: the same optics on larger pixels, with noise; or down-sampling of the image."""
    downsample: DownsampleName = "area"
    """Rule of down-sampling."""
    encoder: Path | None = None
    """A run of trainers.mae, ssl or jepa whose ViT to start from; its options replace --vit's. None: a new one."""
    entry: Entry = "upsample"
    """How a smaller image enters the encoder: up-sampled to its size, or with its patches resampled to smaller ones."""
    loss: Literal["mse", "l1"] = "mse"
    """Mean squared or mean absolute error, of flux over the data range."""
    evaluate_only: Path | None = None
    """Score this run on test images and train nothing: on its own, on another preset's (--preset NAME) or on a stored
    set's (--data PATH). Writes RUN/evaluation_001/metrics.json, or into --out."""
    vit: ViTConfig = field(default_factory=ViTConfig)
    decoder: SuperDecoderConfig = field(default_factory=SuperDecoderConfig)

    @property
    def pairs(self) -> Pairs:
        return Pairs(self.task, self.low, self.downsample)


class SuperresTask:
    """Trains a `SuperResolver`; judges it by PSNR and SSIM beside bicubic up-sampling.

    Args:
        data: opened as `config.pairs` asks for.
        encoder: a pretrained ViT; None for a new one.
        checkpoint: of the run that is gone on with, which fixes transform and units.

    Attributes:
        selects: the checkpoint of the highest PSNR is the best.
        transform: of the low-resolution images.
    """

    selects = "+psnr"

    def __init__(
        self,
        config: SuperresConfig,
        data: Data,
        device: torch.device,
        encoder: Encoder | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config, self.data, self.pairs = config, data, config.pairs
        self._low, self._high = self.pairs.of(data.score)
        if checkpoint is None:
            self.transform, units = self._transform(encoder), self._units()
        else:
            self.transform = InputTransform.from_json(checkpoint.about["transform"])
            units = FluxUnits(**checkpoint.about["model"]["units"])
        offset = self.pairs.offset if checkpoint is None else checkpoint.about["model"].get("offset", 0.0)
        shape = (data.image_shape[0], self.pairs.low_side, self.pairs.low_side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(config.data.seed, "weights"))
            self.model: nn.Module = SuperResolver(
                shape, self.pairs.high_side, config.vit, config.entry, config.decoder, units,
                None if encoder is None else vit_of(encoder), offset=offset,
            ).to(device)  # fmt: skip
        self.about: dict[str, Any] = {
            "trainer": "superres",
            "model": {
                "image_shape": list(shape),
                "high_side": self.pairs.high_side,
                "vit": dataclasses.asdict(config.vit),
                "entry": config.entry,
                "decoder": dataclasses.asdict(config.decoder),
                "units": dataclasses.asdict(units),
                "offset": offset,
            },
            "pairs": dataclasses.asdict(self.pairs),
            "transform": self.transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        self._truth = units.scaled(self._high, self._low)
        bicubic = image_scores(units.scaled(self.resolver.bicubic(self._low), self._low), self._truth)
        self._bicubic = {f"bicubic_{name}": float(bicubic[name].mean()) for name in ("psnr", "ssim")}

    @property
    def resolver(self) -> SuperResolver:
        assert isinstance(self.model, SuperResolver)
        return self.model

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Error of a batch in flux over the data range."""
        low, high = self.pairs.of(batch)
        error = (forward(self.transform(low), low) - high) / self.resolver.units.span(low)
        return error.square().mean() if self.config.loss == "mse" else error.abs().mean()

    def validate(self) -> dict[str, float]:
        """Means over the `score` images, and those of bicubic up-sampling."""
        predicted = enlarge(self.resolver, self.transform, self._low)
        scores = image_scores(self.resolver.units.scaled(predicted, self._low), self._truth)
        return {name: float(values.mean()) for name, values in scores.items()} | self._bicubic

    def test(self, folder: Path, checkpoint: Path) -> Path:
        """Scores the test images and writes `metrics.json`."""
        tables = score_tables(self.resolver, self.transform, self.pairs.of, self.data.test())
        return write_metrics(folder, description(checkpoint, self.about, self.data.identity) | tables)

    def draw(self, folder: Path, lenses_per_class: int = 2) -> list[Path]:
        """Draws what became of validation images and how training went; returns the files."""
        labels = self.data.score.label.cpu()
        rows = torch.cat([torch.nonzero(labels == label)[:lenses_per_class, 0] for label in labels.unique()])
        low, units = self._low[rows.to(self._low.device)], self.resolver.units
        pictures = (low / units.flux_ratio, self.resolver.bicubic(low), enlarge(self.resolver, self.transform, low))
        shown = [units.scaled(picture, low)[:, 0].cpu().numpy() for picture in pictures]
        shown.append(self._truth[rows.to(low.device), 0].cpu().numpy())
        names = [self.data.class_names[label] for label in labels[rows].tolist()]
        scale = self.data.pixel_scale
        half_width = self.data.image_shape[-1] / 2 * scale if scale else self.pairs.high_side / 2
        files = [folder / "enlargements.png", folder / "training.png"]
        by = (
            "the same optics on larger pixels"
            if self.config.low == "optics"
            else f"down-sampled ({self.config.downsample})"
        )
        title = (
            f"{self.pairs.low_side} x {self.pairs.low_side} to {self.pairs.high_side} x {self.pairs.high_side}, {by}"
        )
        unit = "arcsec" if scale else "fine pixel"
        draw_enlargements(files[0], shown, names, title, half_width, unit)
        draw_training(files[1], folder, "MSE" if self.config.loss == "mse" else "mean absolute error")
        return files

    def _transform(self, encoder: Encoder | None) -> InputTransform:
        """That of the images on which encoders are pretrained, in the low images' units: with a pretrained encoder and
        with a new one inputs are the same."""
        name = self.data.transform.name
        if encoder is None:
            scale = self._preset_scale()
        elif encoder.transform.name == name:
            scale = encoder.transform.scale
        else:
            raise ConfigError(
                f"the encoder was trained on inputs through {encoder.transform.name}, and this run has {name}. "
                f"Fix: --input-transform {encoder.transform.name}."
            )
        ratio = self.pairs.input_ratio(self.config.data)
        return InputTransform(tuple(ratio * value for value in scale), name)

    def _preset_scale(self) -> tuple[float, ...]:
        """Of the preset as trainers.mae has it, before `Pairs.on` changed its pixels; of a stored set its own."""
        config = self.config.data
        if self.pairs.on(config) == config:
            return self.data.transform.scale
        simulator = lensgen.Simulator(config.preset, config.seed, self.data.score.image.device)
        return simulator.override(lensgen.parse_overrides(config.set)).input_scale

    def _units(self) -> FluxUnits:
        if self.data.transform.name == "minmax":
            return FluxUnits(self.pairs.flux_ratio, None)
        return FluxUnits(self.pairs.flux_ratio, float(self._high.flatten(1).amax(1).median()))


def vit_of(encoder: Encoder) -> VisionTransformer:
    """The encoder itself; ConfigError for a network that makes no tokens."""
    if encoder.name != "vit":
        raise ConfigError(
            f"{encoder.path} is of a {encoder.name}, and super-resolution needs a ViT: give one of --model vit."
        )
    return cast(VisionTransformer, encoder.module)


def require_same_run(config: SuperresConfig) -> None:
    """Raises `ConfigError` for an option beside `--evaluate-only` that belongs to the training of that run."""
    assert config.evaluate_only is not None
    before = dict(values(load_config(SuperresConfig, run_folder(config.evaluate_only))))
    for name, value in values(config):
        if name not in OF_EVALUATION and value != before[name]:
            raise ConfigError(
                f"--evaluate-only {config.evaluate_only}: the run has {name} = {before[name]}, not {value}; only what "
                f"it is tested on may change: {', '.join(sorted(OF_EVALUATION))}."
            )


def main(argv: list[str] | None = None) -> int:
    """Trains or evaluates as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "superres_gpu" if torch.cuda.is_available() else "superres_cpu"
    config = parse(SuperresConfig, recipe, with_data_of_run(argv), prog="python -m trainers.superres")
    if config.evaluate_only is not None:
        require_same_run(config)
        try:
            evaluate(config.evaluate_only, config.data, config.validation, launch(config.run).device, config.run.out)
        except KeyboardInterrupt:
            print("\ninterrupted; nothing was written.", file=sys.stderr)
            return 130
        return 0
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "superres", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        encoder = None
        if config.encoder is not None and checkpoint is None:
            encoder = load_encoder(config.encoder)
            config = dataclasses.replace(config, vit=encoder.vit)
        pairs = config.pairs
        data = open_data(
            pairs.on(config.data), config.validation, config.run.batch_size, fabric.device, fabric.global_rank,
            fabric.world_size, pairs.outputs, pairs.factor,
        )  # fmt: skip
        origin = pretraining(encoder, data, None if checkpoint is None else checkpoint.about)
        task = SuperresTask(config, data, fabric.device, encoder, checkpoint)
        task.about |= origin
        loop = Loop(fabric, task, data.source, config)
        train(loop, checkpoint)
        if fabric.is_global_zero:
            best = read_checkpoint(loop.best)
            load_weights(task.model, best)
            task.model.eval()
            with loop.writing():
                figures = task.draw(loop.folder)
                task.test(loop.folder, best.path)
            write_summary(loop, data, figures)
    except KeyboardInterrupt:
        say_how_to_resume("trainers.superres", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
