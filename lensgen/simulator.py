"""Preset and seed: indices -> Batch, one call an arrow of priors -> Scene -> light -> PSF -> noise."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lensgen import checks
from lensgen.batch import Batch
from lensgen.device import resolve_device
from lensgen.draw import Systems, draw, draw_label
from lensgen.errors import ParameterError, require_whole, unknown_name
from lensgen.observation import MAX_SIZE, Noise
from lensgen.preset import Preset, load_preset
from lensgen.render import fitting_engine, pick_engine
from lensgen.rng import RandomSource
from lensgen.substructure.population import Draws
from lensgen.truth import TRUTHS, View, truth
from lensgen.twins import ORIGINAL, Twin

if TYPE_CHECKING:
    from lensgen.fused_draw import Drawer

OUTPUTS = ("image", *TRUTHS)
_BLOCK = {"cpu": 1024, "cuda": 4096}  # systems drawn at a time: bounds memory, and changes no bit


class Simulator:
    """Makes the images of a preset. Image i of (preset, seed, split) is always the same image.

    Args:
        preset: a name from `lensgen.presets()`, the path of a YAML file, or a Preset.
        seed: 0 to 2**62 - 1.
        device: "auto", "cpu", "cuda", "cuda:N".
        engine: "auto" or the name of a renderer.
        split: "train", "val" or "test": three disjoint worlds of the same seed.
        outputs: what to put into `Batch.maps`, which describes each (`lensgen.simulator.OUTPUTS` lists the names).
            "image" is made whether it is named or not.
        dtype: torch.float32 or torch.float64, of images and maps.
        hr_factor: 1 to 8, how many pixels of the output "image_hr" make up the side of one of the image.
        label: the name of a class: every image is of this one, and otherwise the same, as by `batch(label=...)`.

    Raises:
        UnknownNameError, PresetError, ParameterError: naming the value and the fix.
        EngineError: the engine that was named cannot do this, or gives no such output.
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        seed: int = 0,
        device: str | torch.device = "auto",
        engine: str = "auto",
        split: str = "train",
        outputs: tuple[str, ...] = ("image",),
        dtype: torch.dtype = torch.float32,
        hr_factor: int = 2,
        label: str | None = None,
    ) -> None:
        if isinstance(outputs, str):
            raise ParameterError(f"outputs = {outputs!r}: give several names, e.g. ('image', {outputs!r}).")
        for name in outputs:
            if name not in OUTPUTS:
                raise unknown_name("output", name, OUTPUTS)
        if dtype not in (torch.float32, torch.float64):
            raise ParameterError(f"dtype = {dtype}: use torch.float32 or torch.float64.")
        require_whole("hr_factor", hr_factor, 1, 8)
        self.preset = load_preset(preset)
        if "image_hr" in outputs and max(self.preset.image_shape[1:]) * hr_factor > MAX_SIZE:
            raise ParameterError(
                f"hr_factor = {hr_factor} makes {max(self.preset.image_shape[1:]) * hr_factor} pixels on a side, more "
                f"than {MAX_SIZE}. Fix: a smaller hr_factor or grid.size."
            )
        self.random = RandomSource(seed, split)
        self.device = resolve_device(device)
        pick_engine(engine, self.device, dtype, outputs)  # refuses what cannot be
        self.engine = engine
        self.outputs = tuple(outputs)
        self.dtype = dtype
        self.hr_factor = hr_factor
        self.label = self._known(label)

    def __repr__(self) -> str:
        label = "" if self.label is None else f", label={self.label!r}"
        twin = f", twin={dict(self.random.twin.numbers)}" if self.random.twin.numbers else ""
        return (
            f"Simulator({self.preset.name!r}, seed={self.random.seed}, split={self.random.split!r}, "
            f"device={str(self.device)!r}, engine={self.engine!r}{label}{twin})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without compiled kernels, which another process (a DataLoader's worker that is spawned) makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_drawer"}

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.preset.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.preset.image_shape

    def override(self, changes: Mapping[str, Any]) -> Simulator:
        """A simulator with fields of the preset changed, e.g. `{"substructure.cdm.count": 50}`; see Preset.override.

        What is not changed keeps its bits: `{"instrument": "euclid_vis_2022"}` is the same lens and dark matter through
        another telescope, with its pixel scale (and so another field), zero point, sky, read noise and, where the
        preset leaves them to the instrument, PSF and exposure; a softening in pixels follows the pixels. The random
        numbers of a pixel's noise are the same: a network that sees both views wants `.twin("noise")` besides.
        """
        return self._like(preset=self.preset.override(changes))

    def twin(self, *parts: str, number: int = 1) -> Simulator:
        """A simulator of the same images with some parts drawn anew; all else keeps its bits, and each its class.

        Args:
            parts: of lensgen.twins.PARTS: "source", "lens_light" (all light of either), "substructure" (another draw of
                the same population), "noise" (of the pixels), "psf" (which of several), "exposure" (its time), or
                "lens": another lens of the same class, that is all of these and mass, shear, deflectors, redshifts.
            number: 1 to 2**31, which of the twins. Those of twins of twins add up: `sim.twin("source").twin("source")`
                is `sim.twin("source", number=2)`.

        What the preset does not draw, or takes from another part (`q: lens.q`), stays as it is. A compensated host
        (params state it together with its substructure) follows its substructure.

        Raises:
            UnknownNameError: a part that there is not.
            ParameterError: no part, or `number` is out of range.
        """
        return self._like(twin=self.random.twin.twin(*parts, number=number))

    def with_outputs(self, *outputs: str) -> Simulator:
        """A simulator of the same images that makes other outputs."""
        return self._like(outputs=outputs)

    def labels(self, indices: Tensor) -> Tensor:
        """The classes of images `[B]`, without simulating them."""
        index = self._indices(None, None, indices).to(self.device)
        if self.label is not None:
            return torch.full_like(index, self.class_names.index(self.label))
        return draw_label(self.preset, Draws(self.random, index))

    def systems(self, index: Tensor, label: str | None = None) -> Systems:
        """The systems of images `index` `[B]` int64, drawn by torch on its device: the same bits on all."""
        name = self.label if label is None else label
        classes = None if name is None else torch.full_like(index, self.class_names.index(name))
        return draw(self.preset, self.random, index, self.dtype, classes)

    def _known(self, label: str | None) -> str | None:
        """A class's name, or None, as it is; UnknownNameError for another."""
        if label is not None and label not in self.class_names:
            raise unknown_name(f"class of {self.preset.name}", label, self.class_names)
        return label

    def _like(self, twin: Twin | None = None, **changes: Any) -> Simulator:
        kept = ("preset", "device", "engine", "outputs", "dtype", "hr_factor", "label")
        arguments: dict[str, Any] = {name: getattr(self, name) for name in kept}
        arguments |= {"seed": self.random.seed, "split": self.random.split}
        made = Simulator(**(arguments | changes))
        made.random = replace(made.random, twin=self.random.twin if twin is None else twin)
        return made

    def batch(
        self,
        start: int | None = None,
        size: int | None = None,
        indices: Tensor | None = None,
        label: str | None = None,
    ) -> Batch:
        """Images start, start + 1, ..., start + size - 1, or those of `indices` `[B]`, in that order.

        With `label`, the name of a class, all of them are of that class and otherwise the same: the same lens, source
        and noise with other dark matter (and the lens that `macro` of a paper's preset gives to a class).
        """
        index = self._indices(start, size, indices)
        return self.of(index.to(self.device), self._known(label))

    def of(self, index: Tensor, label: str | None = None) -> Batch:
        """The images `index` `[B]`, int64 from 0 on and on the simulator's device: as `batch`, which looks at the
        indices first and so waits for the device."""
        parts = []
        for part in index.split(_BLOCK[self.device.type]):
            parts.append(self._block(part, label))
            checks.advance(len(part))
        return Batch.cat(parts)

    def __getitem__(self, index: int) -> Batch:
        """Image `index` as a batch of one."""
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise ParameterError(f"index = {index!r} must be one whole number: for several use batch(indices=...).")
        require_whole("index", operator.index(index), 0, 2**63 - 2)
        return self.batch(start=operator.index(index), size=1)

    __iter__ = None  # there is no last image: LensStream iterates

    def _indices(self, start: int | None, size: int | None, indices: Tensor | None) -> Tensor:
        if (indices is None) == (size is None) or (indices is not None and start is not None):
            raise ParameterError("give batch() either start and size, or indices.")
        if indices is None:
            assert size is not None
            first = 0 if start is None else start
            require_whole("size", size, 1, 2**31)
            require_whole("start", first, 0, 2**63 - 1 - size)
            return torch.arange(first, first + size, device=self.device)  # a copy would wait for the device
        indices = torch.as_tensor(indices)
        if indices.dim() != 1 or indices.numel() == 0 or indices.is_floating_point() or indices.dtype == torch.bool:
            raise ParameterError(
                f"indices must be whole numbers of shape [B], B >= 1, not {indices.dtype} {list(indices.shape)}."
            )
        if int(indices.min()) < 0:
            raise ParameterError(f"index {int(indices.min())} is negative: images are numbered from 0.")
        return indices.to(torch.int64)

    @torch.no_grad()
    def _block(self, index: Tensor, label: str | None) -> Batch:
        systems = self._draw(index) if label in (None, self.label) else self.systems(index, label)
        views = self._views(systems, index)
        image = torch.stack([view.image(view.scene, view.noise) for view in views], 1)
        if self.preset.normalise == "peak":
            image = image / image.flatten(1).amax(1).clamp(min=1e-30).view(-1, 1, 1, 1)
        return Batch(
            image=image,
            label=systems.label,
            class_names=self.class_names,
            params=systems.params,
            index=index,
            pixel_scale=self.preset.bands[0].observation.pixel_scale,
            maps=truth(self.outputs, views),
            bands=tuple(band.name for band in self.preset.bands),
        )

    def _views(self, systems: Systems, index: Tensor) -> list[View]:
        """The systems in each band."""
        return [
            View(
                systems, k, band.observation,
                Noise(self.preset.recipe, band.detector, systems.exposure[k], self.random, index, k), self.engine,
                self.hr_factor,
            )
            for k, band in enumerate(self.preset.bands)
        ]  # fmt: skip

    @cached_property
    def _drawer(self) -> Drawer | None:
        """By which a kernel draws systems, with the same bits; None where torch does."""
        if self.engine == "torch" or pick_engine("auto", self.device, torch.float32) == "torch":
            return None
        from lensgen.fused_draw import drawer  # kernels are loaded when they are used

        number = None if self.label is None else self.class_names.index(self.label)
        return drawer(self.preset, self.dtype, self.device, self.random.twin, number)

    def _draw(self, index: Tensor) -> Systems:
        """The systems of `index`."""
        if self._drawer is None:
            return self.systems(index)
        return self._drawer.draw(self.random, index)

    @cached_property
    def fused(self) -> bool:
        """Whether images are made by kernels of a GPU alone, from drawing to noise."""
        if self.device.type != "cuda" or self._drawer is None:
            return False
        index = torch.zeros(1, dtype=torch.int64, device=self.device)
        with checks.postponed():  # whatever is wrong with that image
            views = self._views(self._draw(index), index)
            return all(
                fitting_engine(self.engine, view.scene, view.observation, view.noise).startswith("cuda")
                for view in views
            )

    @cached_property
    def input_scale(self) -> tuple[float, ...]:
        """For each band, the unit in which a network should see the images: the noise of an empty pixel at the median
        exposure.

        Where the preset is noise-free, or divides each image by its peak, 1 % of the median peak of the first 64
        training images of seed 0.
        """
        preset = self.preset
        if preset.recipe.noiseless or preset.normalise == "peak":
            first = self._like(ORIGINAL, seed=0, split="train", outputs=("image",), label=None)
            images = first.batch(0, 64).image
            return tuple((0.01 * images.flatten(2).amax(2).median(0).values).tolist())
        half = torch.full((1, 1), 0.5, dtype=torch.float64)
        scales = []
        for band in preset.bands:
            median = band.exposure_time.sample(half) * band.detector.exposures
            scales.append(float(preset.recipe.variance(torch.zeros_like(median), median, band.detector)) ** 0.5)
        return tuple(scales)
