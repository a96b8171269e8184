"""Masked-autoencoder pretraining on lenses that exist nowhere else: `python -m trainers.mae --stream`.

The encoder sees the patches that a random mask leaves, the decoder predicts the pixels of the others (He et al. 2021,
arXiv 2111.06377; for lenses arXiv 2512.06642). `--help` lists the options; `trainers/recipes/mae_*.yaml` are complete
settings, of which `mae_cpu` or `mae_gpu` is taken by itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightly.models.utils import get_at_index
from torch import Tensor, nn

from trainers.checkpoint import load_weights, read_checkpoint
from trainers.command_line import exit_with_message, parse
from trainers.config import TrainerConfig, require
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws, key_of
from trainers.export import export_encoder
from trainers.figures import draw_loss_curve, draw_reconstructions
from trainers.loop import Loop
from trainers.models.masked_autoencoder import DecoderConfig, MaskedAutoencoder, masked_mse, restore
from trainers.models.vit import ViTConfig
from trainers.probes import probe
from trainers.session import claim_folder, launch, say_how_to_resume, train
from trainers.summary import write_summary
from trainers.transform import InputTransform

__all__ = ["MAEConfig", "MAETask", "main", "predict", "restore"]


@dataclass(frozen=True)
class MAEConfig(TrainerConfig):
    """Pretrain a masked autoencoder: hide most patches of a lens, predict their pixels from the others."""

    mask_ratio: float = 0.75
    """Fraction of patches hidden, 0.5 to 0.95."""
    norm_pix: bool = False
    """Predict pixels standardised within each patch."""
    vit: ViTConfig = field(default_factory=ViTConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        require("mask_ratio", self.mask_ratio, 0.5, 0.95)


class MAETask:
    """Trains a `MaskedAutoencoder`; judges it by masked MSE and by probes of its encoder.

    Attributes:
        selects: the checkpoint of the least masked MSE is the best.
        mean_image_mse: masked MSE, on the same pixels, of predicting the mean of the `fit` images.
    """

    selects = "-masked_mse"

    def __init__(self, config: MAEConfig, data: Data, device: torch.device) -> None:
        self.config, self.data = config, data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(config.data.seed, "weights"))
            self.model: nn.Module = MaskedAutoencoder(data.image_shape, config.vit, config.decoder).to(device)
        self.about: dict[str, Any] = {
            "trainer": "mae",
            "model": {
                "image_shape": list(data.image_shape),
                "vit": dataclasses.asdict(config.vit),
                "decoder": dataclasses.asdict(config.decoder),
            },
            "transform": data.transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        # always the same of all steps, and none that training uses
        self._fixed_mask = self.mask(Draws(config.data.seed, -1, data.score.index))
        self.mean_image_mse = self._mean_image_mse()

    @property
    def autoencoder(self) -> MaskedAutoencoder:
        assert isinstance(self.model, MaskedAutoencoder)
        return self.model

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Masked MSE of a batch under the masks that `draws` gives."""
        images = self.data.transform(batch.image)
        keep, masked = self.mask(draws)
        targets = self.autoencoder.targets(images, self.config.norm_pix)
        return masked_mse(forward(images, keep, masked), targets, masked)

    def validate(self) -> dict[str, float]:
        """Masked MSE of the `score` images under a fixed mask, and the probes of the encoder."""
        images, masked = self.data.transform(self.data.score.image), self._fixed_mask[1]
        targets = self.autoencoder.targets(images, self.config.norm_pix)
        return {
            "masked_mse": float(masked_mse(self.predict(images, self._fixed_mask), targets, masked)),
            "mean_image_mse": self.mean_image_mse,
            **probe(
                lambda part: self.autoencoder.features(self.data.transform(part)),
                self.data.fit,
                self.data.score,
                self.data.targets,
                self.config.validation.neighbours,
            ),
        }

    def mask(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Token indices to keep and to mask for each image."""
        return self.autoencoder.random_mask(draws, self.config.mask_ratio)

    def predict(self, images: Tensor, mask: tuple[Tensor, Tensor]) -> Tensor:
        """Predictions `[N, M, E]` for transformed images, in float32 and without gradients."""
        chunks = zip(images.split(250), mask[0].split(250), mask[1].split(250), strict=True)
        with torch.no_grad():
            return torch.cat([self.autoencoder(*chunk) for chunk in chunks])

    def draw(self, folder: Path, lenses_per_class: int = 2) -> list[Path]:
        """Draws reconstructions of validation images and the loss curve; returns the files."""
        labels = self.data.score.label.cpu()
        rows = torch.cat([torch.nonzero(labels == label)[:lenses_per_class, 0] for label in labels.unique()])
        images = self.data.transform(self.data.score.image[rows])
        mask = (self._fixed_mask[0][rows], self._fixed_mask[1][rows])
        predicted = self.predict(images, mask)
        hidden = self.autoencoder.paste(images, torch.full_like(predicted, torch.nan), mask[1])
        painted = self.autoencoder.paste(images, predicted, mask[1], self.config.norm_pix)
        names = [self.data.class_names[label] for label in labels[rows].tolist()]
        original, seen, reconstruction = (picture[:, 0].cpu().numpy() for picture in (images, hidden, painted))
        rules = ", patches standardised" if self.config.norm_pix else ""
        title = f"{self.config.mask_ratio:.0%} of the {self.autoencoder.patch_size}-pixel patches masked{rules}"
        files = [folder / "reconstructions.png", folder / "loss.png"]
        half_width = self.data.image_shape[-1] / 2 * (self.data.pixel_scale or 1.0)
        unit = "pixel" if self.data.pixel_scale is None else "arcsec"
        draw_reconstructions(files[0], original, seen, reconstruction, names, title, half_width, unit)
        draw_loss_curve(files[1], folder, self.mean_image_mse, "mean image, on the same pixels")
        return files

    def export(self, loop: Loop) -> Path:
        """Writes the encoder of the best checkpoint for timm, into the run's folder `encoder`."""
        best = read_checkpoint(loop.best)
        model = restore(best.about)
        load_weights(model, best)
        vit, shape = model.encoder.vit, self.data.image_shape
        return export_encoder(loop.folder, vit, "vit", self.config.vit, shape, self.about, best.about["step"])

    def _mean_image_mse(self) -> float:
        fit, score = (
            self.autoencoder.targets(self.data.transform(part.image), self.config.norm_pix)
            for part in (self.data.fit, self.data.score)
        )
        masked = self._fixed_mask[1]
        mean = fit.mean(dim=0, keepdim=True).expand_as(score)
        return float(masked_mse(get_at_index(mean, masked - 1), score, masked))


def predict(model: MaskedAutoencoder, transform: InputTransform, image: Tensor) -> Tensor:
    """Features `[B, D]` of images `[B, C, H, W]`: what `trainers.load` gives of a run."""
    return model.features(transform(image))


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "mae_gpu" if torch.cuda.is_available() else "mae_cpu"
    config = parse(MAEConfig, recipe, argv, prog="python -m trainers.mae")
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "mae", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
        )
        task = MAETask(config, data, fabric.device)
        loop = Loop(fabric, task, data.source, config)
        train(loop, checkpoint)
        if fabric.is_global_zero:
            with loop.writing():
                figures = task.draw(loop.folder)
                task.export(loop)
            trained = write_summary(loop, data, figures)["trained"]
            if trained["masked_mse"] >= task.mean_image_mse:
                print("the mean image is no worse on hidden pixels: train for longer, by --minutes or --steps")
    except KeyboardInterrupt:
        say_how_to_resume("trainers.mae", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
