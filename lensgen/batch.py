"""A Batch: images, what they show, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Batch:
    """B simulated observations.

    Args:
        image: `[B, C, H, W]`, e-/s per pixel (counts for the recipe `deeplense_i`).
        label: `[B]` int64, the substructure class.
        class_names: what the labels stand for.
        params: `[B]` float32 each: every number that was drawn once a system, named by its place in the preset; of
            subhalos their count and `total_mass` (Msun, of all in the image). Those of a substructure class are 0 in
            images of another class: mask by label before taking a logarithm. `noise.total_exposure` is in s.
        index: `[B]` int64: with preset and seed, all that is needed to make the image again.
        pixel_scale: arcsec.
        maps: truth that was asked for: "clean" and "smooth" `[B, C, H, W]`, "detectability" `[B]`.
    """

    image: Tensor
    label: Tensor
    class_names: tuple[str, ...]
    params: dict[str, Tensor]
    index: Tensor
    pixel_scale: float
    maps: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        classes = ", ".join(f"{int((self.label == k).sum())} {name}" for k, name in enumerate(self.class_names))
        size = "x".join(map(str, self.image.shape))
        return f"Batch({size}: {classes}; maps: {list(self.maps)}; params: {list(self.params)})"

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies faster; DataLoader(pin_memory=True) calls it."""
        return self.map(lambda t: t.pin_memory())

    def map(self, change) -> Batch:
        """The batch with `change` applied to each of its tensors."""
        return replace(
            self,
            image=change(self.image),
            label=change(self.label),
            params={k: change(v) for k, v in self.params.items()},
            index=change(self.index),
            maps={k: change(v) for k, v in self.maps.items()},
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on another device."""
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def show(self, columns: int = 8) -> Figure:
        """A labelled gallery of the images, with axes in arcsec."""
        from lensgen.plot import gallery

        return gallery(self, columns=columns)

    def _repr_png_(self) -> bytes:
        from lensgen.plot import png

        return png(self.show())

    @staticmethod
    def cat(batches: list[Batch]) -> Batch:
        """Several batches of the same preset as one."""
        first = batches[0]
        if len(batches) == 1:
            return first
        return replace(
            first,
            image=torch.cat([b.image for b in batches]),
            label=torch.cat([b.label for b in batches]),
            params={k: torch.cat([b.params[k] for b in batches]) for k in first.params},
            index=torch.cat([b.index for b in batches]),
            maps={k: torch.cat([b.maps[k] for b in batches]) for k in first.maps},
        )
