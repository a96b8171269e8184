"""The one transform of a model's inputs: fixed for a data set, kept in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainers.errors import CheckpointError, ConfigError

TransformName = Literal["asinh", "minmax"]


@dataclass(frozen=True)
class InputTransform:
    """asinh(x / scale): linear in the noise, logarithmic in the bright arcs, fixed for a data set. Or, for figures that
    are to stand beside a paper's, each channel of each image scaled to 0..1 by its own least and greatest pixel.

    Attributes:
        scale: of each channel, the sky noise in the units of the images, or 1 % of the median peak of a noise-free
            set.
        name: "asinh", or "minmax", which leaves `scale` unused.
    """

    scale: tuple[float, ...]
    name: TransformName = "asinh"

    def __post_init__(self) -> None:
        # a checkpoint from before there were bands holds one number
        object.__setattr__(self, "scale", (self.scale,) if isinstance(self.scale, float) else tuple(self.scale))
        if not all(0 < s < float("inf") for s in self.scale):
            raise ConfigError(f"the input transform's scale is {self.scale}; it must be positive and finite.")

    def __call__(self, image: Tensor) -> Tensor:
        """Transformed images `[..., C, H, W]`."""
        if self.name == "minmax":
            low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
            return (image - low) / (high - low).clamp(min=1e-30)
        if len(self.scale) == 1:
            return torch.asinh(image / self.scale[0])
        return torch.asinh(image / image.new_tensor(self.scale).view(-1, 1, 1))

    def as_json(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {"name": self.name, "scale": list(self.scale)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> InputTransform:
        """Of a checkpoint; CheckpointError for a transform that this version does not know."""
        if saved.get("name") not in ("asinh", "minmax"):
            raise CheckpointError(f"the checkpoint's input transform is {saved.get('name')!r}; known: asinh, minmax.")
        return cls(saved["scale"], saved["name"])
