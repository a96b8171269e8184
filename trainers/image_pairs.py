"""Pairs of a low-resolution and a high-resolution image of the same lens.

By optics, which only a simulator can: the field is observed twice through the same optics. Low resolution is the image
on pixels `factor` times larger, noise and all; high resolution the clean image on the fine pixels.
By down-sampling, as the papers do and as stored sets allow: high resolution is the image itself, low resolution is
`torch.nn.functional.interpolate` of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

import lensgen
from trainers.config import DataConfig
from trainers.data import Batch
from trainers.errors import ConfigError, DataError

TaskName = Literal["16to64", "64to128"]
LowName = Literal["optics", "downsample"]
DownsampleName = Literal["area", "bicubic", "nearest"]

SIDES: dict[str, tuple[int, int]] = {"16to64": (16, 64), "64to128": (64, 128)}
ENCODER_SIDE = 64  # of the images that trainers.mae pretrains on


def upsample(image: Tensor, side: int, offset: float = 0.0) -> Tensor:
    """Bicubic up-sampling of `[B, C, h, h]` to `[B, C, side, side]`: the baseline, and what predictions start at.

    Args:
        offset: where the pixels of `image` stand, see `Pairs.offset`. 0 is `torch.nn.functional.interpolate`.
    """
    if not offset:
        return functional.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    place = (torch.arange(side, device=image.device) + 0.5) / side - offset / image.shape[-1]
    grid = torch.stack(torch.meshgrid(2 * place - 1, 2 * place - 1, indexing="xy"), dim=-1)
    grid = grid.expand(len(image), side, side, 2)
    # at offset 0 this is `interpolate` but for rounding, at the borders too
    fine = functional.grid_sample(image.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)
    return fine.type_as(image)


def downsample(image: Tensor, factor: int, by: DownsampleName) -> Tensor:
    """Down-sampling of `[B, C, H, W]` to `[B, C, H / factor, W / factor]`, in units of the pixels' mean.

    `area`, the mean over the pixels, is what larger pixels would see, and the default. `nearest` takes the corner pixel
    of each block, as torch's rule of that name does; `Pairs.offset` says where that is.

    Which rule the papers took is not known. Bicubic up-sampling by 4 scores, on 100 validation images of
    deeplense_ii_legacy scaled to 0..1 each: area 31.3 dB / .973 (PSNR / SSIM), bicubic with antialiasing 31.2 / .956,
    nearest 30.9 / .965; the all-zero picture 19.5 / .794. Torch's plain `interpolate` of `nearest`, which takes the
    samples for the blocks' centres and so shifts the image by 1.5 fine pixels, scores 25.1 / .898: what it lacks is no
    information. The network of arXiv 2512.06642 scores 33 / .961, which ties the paper to none of these rules.
    """
    side = image.shape[-1] // factor
    if by == "area":
        return functional.interpolate(image, size=(side, side), mode="area")
    if by == "nearest":
        return image[..., ::factor, ::factor]
    return functional.interpolate(image, size=(side, side), mode="bicubic", antialias=True, align_corners=False)


@dataclass(frozen=True)
class Pairs:
    """What a pair is, of one task.

    Args:
        task: the sides of the two images [pixels].
        low: where the low-resolution image comes from.
        by: the rule of down-sampling.
    """

    task: TaskName
    low: LowName
    by: DownsampleName = "area"

    @property
    def low_side(self) -> int:
        return SIDES[self.task][0]

    @property
    def high_side(self) -> int:
        return SIDES[self.task][1]

    @property
    def factor(self) -> int:
        """How many fine pixels make up the side of a large one."""
        return self.high_side // self.low_side

    @property
    def flux_ratio(self) -> float:
        """Pixel values of the low image over those of the high one: by optics a large pixel collects the flux of all
        its fine ones, down-sampled it has their mean."""
        return float(self.factor**2) if self.low == "optics" else 1.0

    @property
    def offset(self) -> float:
        """Where the low pixels stand on both axes, as seen from the centres of their blocks and positive towards higher
        indices [low pixels]: -0.375 for the first of four fine pixels, which is 1.5 of them before the centre."""
        return (1 / self.factor - 1) / 2 if self.low == "downsample" and self.by == "nearest" else 0.0

    def input_ratio(self, config: DataConfig) -> float:
        """Pixel values of the low image over those of the `ENCODER_SIDE` pixels of the preset itself, on which
        encoders are pretrained: the flux of pixels of another size. 1 for a stored set and where values are no flux."""
        if self.low == "optics":
            return (ENCODER_SIDE / self.low_side) ** 2
        if config.data is not None or not _in_flux(_preset_of(config)):
            return 1.0
        return (ENCODER_SIDE / self.high_side) ** 2

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the simulator must make."""
        return ("image", "image_hr") if self.low == "optics" else ("image",)

    @property
    def image_side(self) -> int:
        """Side of `Batch.image`."""
        return self.low_side if self.low == "optics" else self.high_side

    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The low and the high images `[B, C, h, h]`, `[B, C, H, H]` of a batch.

        Raises:
            DataError: the images are of another size.
        """
        if batch.image.shape[-2:] != (self.image_side, self.image_side):
            height, width = batch.image.shape[-2:]
            raise DataError(
                f"--task {self.task} with --low {self.low} takes images of {self.image_side} x {self.image_side} "
                f"pixels; these have {height} x {width}. Give a set of that size, or the other task."
            )
        if self.low == "optics":
            return batch.image, batch.maps["image_hr"]
        return downsample(batch.image, self.factor, self.by), batch.image

    def on(self, config: DataConfig) -> DataConfig:
        """`config` with the preset's pixels changed to those of `Batch.image` on the same field; a stored set's itself.

        Raises:
            ConfigError: the preset is not one that this task can be done on; it names the fix.
        """
        if config.data is not None:
            if self.low == "optics":
                raise ConfigError(
                    f"--low optics observes each lens twice, which a stored set such as {config.data} cannot: give "
                    "--stream, or --low downsample."
                )
            return config
        preset = _preset_of(config)
        if preset.image_shape[1:] != (64, 64):
            raise ConfigError(
                f"--task {self.task} starts from a preset of 64 x 64 pixels; {preset.name} has "
                f"{preset.image_shape[1]} x {preset.image_shape[2]}. Fix: --set grid.size=64."
            )
        if self.low == "optics":
            self._require_flux(preset)
        changes = self._coarser(preset) if self.image_side < 64 else self._finer(preset) if self.image_side > 64 else {}
        return dataclasses.replace(config, set=(*config.set, *(f"{name}={value}" for name, value in changes.items())))

    def _require_flux(self, preset: lensgen.Preset) -> None:
        if not _in_flux(preset):
            raise ConfigError(
                f"--low optics compares an image with a clean one, but the images of {preset.name} are in another unit "
                f"(noise.recipe {preset.recipe.name}, normalise {preset.normalise}). Fix: --low downsample, or "
                "--set noise.recipe=ccd and --set normalise=none."
            )

    def _coarser(self, preset: lensgen.Preset) -> dict[str, object]:
        """Pixels `factor` times larger. The rays stay where they are, and the PSF acts on the rays it acted on."""
        observation = preset.bands[0].observation
        if observation.supersampling > 1 and not observation.psf_supersampled:
            raise ConfigError(
                f"--low optics on larger pixels needs the PSF of {preset.name} on its rays. "
                "Fix: --set psf.supersampled=true."
            )
        return {
            "grid.size": self.image_side,
            "grid.supersampling": observation.supersampling * self.factor,
            "instrument.pixel_scale": observation.pixel_scale * self.factor,
            "psf.supersampled": "true",
            **_softening(preset, 1 / self.factor),
        }

    def _finer(self, preset: lensgen.Preset) -> dict[str, object]:
        """Pixels `factor` times finer, with as many rays or more."""
        observation = preset.bands[0].observation
        return {
            "grid.size": self.image_side,
            "grid.supersampling": -(-observation.supersampling // self.factor),
            "instrument.pixel_scale": observation.pixel_scale / self.factor,
            **_softening(preset, self.factor),
        }


def _preset_of(config: DataConfig) -> lensgen.Preset:
    return lensgen.load_preset(config.preset).override(lensgen.parse_overrides(config.set))


def _in_flux(preset: lensgen.Preset) -> bool:
    """Whether images are in the unit of clean ones."""
    doubled = bool((preset.recipe.response(torch.full((1, 1), 2.0)) != 1.0).any())
    return not doubled and preset.normalise == "none"


def _softening(preset: lensgen.Preset, times: float) -> dict[str, object]:
    """Point masses are softened by a stated number of pixels: with other pixels the same lens has another number."""
    lengths = {name: getattr(population, "softening", 0.0) for name, population in preset.classes.items()}
    return {f"substructure.{name}.softening": length * times for name, length in lengths.items() if length}
