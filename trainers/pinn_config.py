"""The options of `trainers.pinn`, and which of them exclude one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from trainers.classification import ClassificationConfig
from trainers.config import require
from trainers.errors import ConfigError
from trainers.models.brightness import NOISE_FLOOR
from trainers.models.vit import ViTConfig
from trainers.targets import TARGETS
from trainers.views import Augmentation

Model = Literal["lenspinn_small", "lenspinn_large", "lensformer"]
COMPACTNESS = 10.0


@dataclass(frozen=True)
class PinnConfig(ClassificationConfig):
    """Learn to tell the classes of lenses apart by networks that rebuild their sources, and test that on others."""

    model: Model = "lenspinn_small"
    """LensPINN with MobileNetV3 (small) or with EfficientNet-B0 (large), or Lensformer."""
    preprocessing: bool = True
    """Whether LensPINN's second CNN sees the preprocessed image; by --no-preprocessing it sees the image as it is."""
    physics: bool = True
    """Whether the source is rebuilt; by --no-physics LensPINN is its second CNN alone (the paper's table 2)."""
    hard: bool = False
    """Rebuild it of nearest pixels, as the public code, which teaches the lens nothing: theta_E has no gradient."""
    floor: float = 0.02
    """Fraction of the peak below which all pixels are equally dark to the preprocessing; where the input transform is
    asinh so are all below twice the noise."""
    dropout: float = 0.0
    """Dropout in the transformer and the head."""
    compactness: float | None = None
    """Weight of the second moment of the source's light in units of that of the image's, by which theta_E is found: 1
    without a lens, some hundredths with the right one, and with another more by the square of theta_E's relative error.
    10 unless --hard or --no-physics is given. All light is taken for the source's: stored images must be free of the
    lens's own, as those of a preset must, and their sky be subtracted."""
    physics_weight: float = 0.0
    """Weight of chi-square, the mean squared residual, in units of the noise, of the rebuilt source lensed again
    (LensPINN, of streamed images with noise and without lens light): 1 is noise alone, 2 to 10 is usual with the right
    theta_E, and 10 to 60 with one 10 % off. Try 0.1."""
    physics_after: float = 0.5
    """Share of the steps after which chi-square counts: it sharpens a theta_E that is known to some per cent, and leads
    any other astray, to 0."""
    encoder: tyro.conf.Suppress[Path | None] = None
    pretrained: tyro.conf.Suppress[bool] = False
    vit: tyro.conf.Suppress[ViTConfig] = field(default_factory=ViTConfig)

    def __post_init__(self) -> None:
        if self.encoder is not None or self.pretrained or self.vit != ViTConfig():
            raise ConfigError(
                "encoder, pretrained and vit are options of trainers.classify; trainers.pinn trains new networks of "
                "the papers' sizes. Leave them out of the recipe."
            )
        super().__post_init__()
        require("floor", self.floor, 1e-6, 0.9)
        require("dropout", self.dropout, 0, 0.9)
        require("compactness", self.compactness or 0, 0)
        require("physics_weight", self.physics_weight, 0)
        require("physics_after", self.physics_after, 0, 1)
        radius = TARGETS["theta_E"]
        if not radius.survives(self.augment):
            allowed = [name for name in get_args(Augmentation) if radius.survives(name)]
            raise ConfigError(
                f"--augment {self.augment} crops images, which moves the lens and enlarges theta_E; allowed: "
                f"{', '.join(allowed)}."
            )
        self._require_its_own_options()
        for flag, weight in (("--compactness", self.compactness), ("--physics-weight", self.physics_weight)):
            for other, given in (("--hard", self.hard), ("--no-physics", not self.physics)):
                if weight and given:
                    raise ConfigError(
                        f"{flag} {weight:g} teaches a lens that {other} leaves {'untaught' if self.hard else 'out'}; "
                        "give one of the two."
                    )
        if self.physics_weight and self.model == "lensformer":
            raise ConfigError(
                "--physics-weight lenses sources again by a sphere, and lensformer corrects its own; take --model "
                "lenspinn_small or lenspinn_large, or --physics-weight 0."
            )
        if self.physics_weight and self.data.data is not None:
            raise ConfigError(
                f"--physics-weight lenses sources again through the telescope of a preset, and --data {self.data.data} "
                "does not say which that was; give --stream, or --physics-weight 0."
            )

    def _require_its_own_options(self) -> None:
        if self.model == "lensformer":
            for flag, given in (("--no-preprocessing", not self.preprocessing), ("--no-physics", not self.physics)):
                if given:
                    raise ConfigError(
                        f"{flag} takes a part of LensPINN away that lensformer cannot do without; take --model "
                        "lenspinn_small or lenspinn_large."
                    )
        if self.hard and not self.physics:
            raise ConfigError("--hard is of the source that --no-physics leaves out; give one of the two.")
        # a value that is the default's may stand beside anything: nobody is known to have given it
        if self.physics_after != PinnConfig.physics_after and not self.physics_weight:
            raise ConfigError(
                f"--physics-after {self.physics_after:g} is of chi-square, which has no weight; give --physics-weight "
                "too, e.g. 0.1, or leave it out."
            )
        if self.floor != PinnConfig.floor and not self.preprocessing:
            raise ConfigError(
                f"--floor {self.floor:g} is of the preprocessing that --no-preprocessing leaves out; give one of the "
                "two."
            )

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses of the lens, by name, without those of weight 0."""
        default = COMPACTNESS if self.physics and not self.hard else 0.0
        weights = {
            "compactness": default if self.compactness is None else self.compactness,
            "chi_square": self.physics_weight,
        }
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def options(self) -> dict[str, Any]:
        """Of the network."""
        noise_floor = NOISE_FLOOR if self.data.input_transform == "asinh" else 0.0
        own = {"hard": self.hard, "floor": self.floor, "noise_floor": noise_floor, "dropout": self.dropout}
        if self.model == "lensformer":
            return own
        return own | {"preprocessing": self.preprocessing, "physics": self.physics}
