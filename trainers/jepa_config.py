"""The options of `trainers.jepa`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.classify_evaluation import NO_STORED_DETECTABILITY
from trainers.config import TrainerConfig, require
from trainers.errors import ConfigError
from trainers.models.block_masks import BlockMaskConfig
from trainers.models.jepa import EncoderName, PredictorConfig
from trainers.models.vit import ViTConfig

COMPACTNESS = 1.0


@dataclass(frozen=True)
class JEPAConfig(TrainerConfig):
    """Let an encoder teach itself: from some patches of a lens predict the features of others."""

    encoder: EncoderName = "vit"
    """A plain ViT (I-JEPA); vitsd, with shifted patches and locality attention; or physics, which rebuilds the source
    by a lens that it estimates, and looks at both (Lens-JEPA). All are of the size that --vit.* says."""
    momentum: float = 0.996
    """What the target encoder keeps of itself in the first step; climbs to 1 along a cosine."""
    compactness: float | None = None
    """Of --encoder physics: weight of the second moment of the source's light in units of that of the image's, by which
    theta_E is found (see trainers.pinn), 1 by itself. The prediction alone says little about it. 0: none."""
    augment: Literal["none", "d4", "noise"] = "none"
    """Show each image as it is (none), in one of its eight rotations and reflections (d4), or with more noise; drawn
    anew at every step. (What turns by other angles repeats pixels from beyond the rim, which may show a target.)"""
    detectability: int = 0
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""
    mask: BlockMaskConfig = field(default_factory=BlockMaskConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)

    def __post_init__(self) -> None:
        require("momentum", self.momentum, 0, 1)
        require("detectability", self.detectability, 0)
        if self.compactness is not None:
            require("compactness", self.compactness, 0)
            if self.encoder != "physics":
                raise ConfigError(
                    f"--compactness is of --encoder physics and does nothing to {self.encoder}; leave it out."
                )
        if self.data.input_transform == "minmax":
            raise ConfigError(
                "--input-transform minmax scales an image by its brightest pixel, hidden or not, which tells the "
                "context of the targets; leave it out for asinh."
            )
        if self.encoder != "vit" and self.vit.drop_path:
            raise ConfigError(f"--vit.drop-path does nothing to --encoder {self.encoder}; leave it out.")
        if self.detectability and self.data.data is not None:
            raise ConfigError(NO_STORED_DETECTABILITY)

    @property
    def compactness_weight(self) -> float:
        """What `compactness` is taken for."""
        if self.encoder != "physics":
            return 0.0
        return COMPACTNESS if self.compactness is None else self.compactness
