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
        maps: the truth that was asked for, as below.
        bands: names of the C channels.

    All maps are float tensors of the images' dtype, but for the mask; on the pixels of the image unless they say
    otherwise, at the pixels' centres where they are no images. Images among them are noise-free, e-/s per pixel:

    | name                 | shape            | what                                                                  |
    |----------------------|------------------|-----------------------------------------------------------------------|
    | clean                | `[B, C, H, W]`   | the image without noise, and not divided by its peak                  |
    | smooth               | `[B, C, H, W]`   | the same without the substructure                                     |
    | image_hr             | `[B, C, fH, fW]` | clean on pixels that are hr_factor times finer, flux per fine pixel   |
    | source, lens_light   | `[B, C, H, W]`   | unlensed light, without PSF                                           |
    | noise_map            | `[B, C, H, W]`   | standard deviation of the noise, in the image's unit before a division|
    | deflection           | `[B, 2, H, W]`   | arcsec, towards x and y                                               |
    | potential            | `[B, H, W]`      | arcsec^2; its gradient is the deflection                              |
    | kappa, kappa_sub     | `[B, H, W]`      | convergence of all, of the substructure; 0 for points and thin rods   |
    | magnification        | `[B, H, W]`      | signed: negative where images are mirrored                            |
    | subhalo_mask         | `[B, H, W]` bool | near dense substructure (`lensgen.truth.subhalo_mask` has the rule)   |
    | catalogue.*          | `[B, N]`, `[B]`  | parameters of each perturber, and their count: see `catalogue`        |
    | detectability        | `[B]`            | chi-square of the substructure                                        |
    """

    image: Tensor
    label: Tensor
    class_names: tuple[str, ...]
    params: dict[str, Tensor]
    index: Tensor
    pixel_scale: float
    maps: dict[str, Tensor] = field(default_factory=dict)
    bands: tuple[str, ...] = ()

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

    @property
    def catalogue(self) -> dict[str, dict[str, Tensor]]:
        """The output "catalogue" by component and parameter, e.g. `catalogue["cdm.subhalos"]["center_x"]` `[B, N]`.

        Parameters are those of the mass profile, in its units; in system i the first `["count"][i]` of the N slots are
        in use, and the others 0.
        """
        tables: dict[str, dict[str, Tensor]] = {}
        for name, values in self.maps.items():
            kind, _, rest = name.partition(".")
            if kind == "catalogue":
                component, _, parameter = rest.rpartition(".")
                tables.setdefault(component, {})[parameter] = values
        return tables

    def show(self, columns: int = 8) -> Figure:
        """The images with axes in arcsec: a labelled gallery, or a row each where there are maps to show beside."""
        from lensgen.plot import gallery, maps_beside, pictures_of

        return maps_beside(self) if pictures_of(self) else gallery(self, columns=columns)

    def _repr_png_(self) -> bytes:
        from lensgen.plot import png

        few = self.map(lambda t: t[: 8 if self.maps else 32])  # a notebook is to stay quick
        return png(few.show())

    def tensors(self) -> list[Tensor]:
        """All of its tensors."""
        return [self.image, self.label, *self.params.values(), self.index, *self.maps.values()]

    def split(self, size: int) -> list[Batch]:
        """Batches of `size` systems each, the last one smaller, in the memory of this one."""
        pieces = {id(t): t.split(size) for t in self.tensors()}
        return [self.map(lambda t, k=k: pieces[id(t)][k]) for k in range(-(-len(self) // size))]

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
