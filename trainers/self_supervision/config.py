"""The options of a method: what a flag leaves open is the method's own, and no flag is without effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.config import TrainerConfig, require
from trainers.errors import ConfigError
from trainers.models.vit import ViTConfig
from trainers.self_supervision.method import OPTIONS, Heads, Method
from trainers.self_supervision.registry import METHODS, MethodName


@dataclass(frozen=True)
class MethodConfig(TrainerConfig):
    """How an encoder teaches itself."""

    method: MethodName = "simclr"
    """Contrastive with a rotated or a noised view (rotation, noise) or with crops (simclr); by a teacher (byol,
    simsiam, dino); or by the statistics of the projections (vicreg, lejepa)."""
    model: str = "vit"
    """The encoder: vit (as --vit.* says), cnn, or a name of timm's, e.g. resnet50."""
    head_norm: Literal["none", "batch", "layer"] | None = None
    """Norm in the heads; None, here and below: the method's own. Batch norms take their statistics over all images of a
    step, on a CPU over those of a process."""
    head_hidden: int | None = None
    """Width of the heads' hidden layers."""
    head_width: int | None = None
    """Width of the projections."""
    predictor: bool = True
    """Of byol and simsiam: predict the teacher's projection. Without, and without --ema, nothing hinders collapse."""
    ema: bool = True
    """Of byol and dino: the teacher is a running mean of the network; without, the network itself."""
    temperature: float | None = None
    """Of rotation, noise, simclr and dino (the student's)."""
    teacher_temperature: float | None = None
    """Of dino."""
    momentum: float | None = None
    """Of byol and dino: what the teacher keeps of itself in the first step; climbs to 1 along a cosine."""
    invariance: float | None = None
    """Of vicreg: weight of the distance between views."""
    variance: float | None = None
    """Of vicreg: weight of the deviation of each dimension."""
    covariance: float | None = None
    """Of vicreg: weight of the covariance between dimensions."""
    trade_off: float | None = None
    """Of lejepa: weight of the Gaussian shape against that of the distance between views, 0 to 1."""
    local_views: int | None = None
    """Of dino and lejepa: small crops of each image beside the two large ones, enlarged to its size."""
    vit: ViTConfig = field(default_factory=ViTConfig)

    def __post_init__(self) -> None:
        for name, (low, high) in OPTIONS.items():
            if getattr(self, name) is not None:
                require(name, getattr(self, name), low, high)
                self._require_taken(name, name in self.options)
        for name in ("head_hidden", "head_width"):
            if getattr(self, name) is not None:
                require(name, getattr(self, name), 2)
        if self.head_norm is not None and self.head_norm not in self._chosen.norms:
            raise ConfigError(
                f"head_norm is {self.head_norm}; allowed with --method {self.method}: {', '.join(self._chosen.norms)}."
            )
        self._require_taken("no-predictor", self.predictor or self._chosen.heads.predictor)
        self._require_taken("no-ema", self.ema or self._chosen.heads.teacher == "momentum")

    def _require_taken(self, flag: str, taken: bool) -> None:
        if not taken:
            raise ConfigError(f"--{flag.replace('_', '-')} does nothing to --method {self.method}; leave it out.")

    @property
    def _chosen(self) -> Method:
        return METHODS[self.method]

    @property
    def heads(self) -> Heads:
        """The heads that were asked for."""
        own = self._chosen.heads
        return Heads(
            norm=self.head_norm or self._chosen.norms[0],
            hidden=self.head_hidden or own.hidden,
            width=self.head_width or own.width,
            predictor=own.predictor and self.predictor,
            teacher="self" if own.teacher == "momentum" and not self.ema else own.teacher,
        )

    @property
    def options(self) -> dict[str, float]:
        """Each option that the method has, with its value; without a running mean there is no momentum."""
        own = {name: value for name, value in self._chosen.options.items() if self.ema or name != "momentum"}
        return {name: value if getattr(self, name) is None else getattr(self, name) for name, value in own.items()}
