"""Frozen evaluation batches: fixed by preset, split and size alone, and known again by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from lensgen.batch import Batch
from lensgen.draw import Systems
from lensgen.errors import LensgenError, ParameterError, require_whole
from lensgen.observation import Noise
from lensgen.preset import Preset, load_preset
from lensgen.render import render
from lensgen.simulator import Simulator

SEED = 20_251_206  # of every benchmark, in all splits; training on it is training on the test
_HASHED = 64  # systems whose numbers enter the fingerprint
_SHOWN = 3  # systems of which reference pixels are kept
_TOLERANCE = 1e-5  # of an image's peak, PHYSICS: between engines


class Benchmark(Dataset[tuple[Tensor, Tensor]]):
    """`size` images of a preset that never change: image i is that of `Simulator(preset, SEED, split=split)`.

    A data set of PyTorch's: `benchmark[i]` is (image `[C, H, W]`, label), simulated when asked for, and
    `DataLoader(benchmark, batch_size=256)` works. `batch` and `batches` give whole Batches.

    Args:
        preset: name, path or Preset.
        split: "test", "val" or "train".
        size: number of images.
        device, engine: as for Simulator.
        outputs, hr_factor: truth beside the images, as for Simulator.
        overrides: changes to the preset, as for Simulator.override. They make another benchmark.
        label: the name of a class: every image is of this one, as for Simulator. Another benchmark, too.
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        split: str = "test",
        size: int = 15_000,
        device: str | torch.device = "auto",
        engine: str = "auto",
        outputs: tuple[str, ...] = ("image",),
        hr_factor: int = 2,
        overrides: Mapping[str, Any] | None = None,
        label: str | None = None,
    ) -> None:
        require_whole("size", size, 1, 2**31)
        self.size = size
        made = load_preset(preset)
        if overrides:
            made = made.override(overrides)
        self.simulator = Simulator(made, SEED, device, engine, split, outputs, hr_factor=hr_factor, label=label)

    def __repr__(self) -> str:
        preset, split = self.simulator.preset.name, self.simulator.random.split
        return f"Benchmark({preset!r}, split={split!r}, size={self.size}, fingerprint={self.fingerprint!r})"

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Several samples at once, as DataLoader asks for them: simulated in one go."""
        own = torch.as_tensor(indices)
        own = torch.where(own < 0, own + self.size, own)
        outside = (own < 0) | (own >= self.size)
        if bool(outside.any()):
            raise IndexError(f"index {indices[int(outside.nonzero()[0])]} is outside the {self.size} of {self!r}")
        batch = self.simulator.batch(indices=own)
        return list(zip(batch.image.unbind(0), batch.label.unbind(0), strict=True))

    def batch(self, start: int = 0, size: int | None = None) -> Batch:
        """Images start, ..., start + size - 1; all that are left by default."""
        size = self.size - start if size is None else size
        require_whole("start", start, 0, self.size - 1)
        require_whole("size", size, 1, self.size - start)
        return self.simulator.batch(start, size)

    def batches(self, size: int = 256) -> Iterator[Batch]:
        """All images in order; the last batch may be smaller."""
        require_whole("size", size, 1, 2**31)
        for start in range(0, self.size, size):
            yield self.batch(start, min(size, self.size - start))

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that follow from split, size, and the exact bits of labels, parameters and random
        numbers of 64 of its systems: equal on every machine and for every engine."""
        simulator = self.simulator
        index = torch.arange(min(_HASHED, self.size)) * self.size // min(_HASHED, self.size)
        digest = hashlib.sha256(f"{simulator.random.split} {self.size} {simulator.preset.fingerprint}".encode())
        systems = simulator.systems(index)
        for name, value in sorted(_numbers(systems).items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        for k in range(len(simulator.preset.bands)):
            for name in ("shot", "read"):
                variable = self._noise(systems, index, k).variable(name)
                digest.update(simulator.random.words(index, variable, 16).numpy().tobytes())
        return digest.hexdigest()[:16]

    def _noise(self, systems: Systems, index: Tensor, band: int) -> Noise:
        preset = self.simulator.preset
        detector = preset.bands[band].detector
        return Noise(preset.recipe, detector, systems.exposure[band], self.simulator.random, index, band)

    @cached_property
    def reference(self) -> list[list[float]]:
        """Noise-free pixels along the diagonal of its first three images, in units of their peak."""
        index = torch.arange(min(_SHOWN, self.size))
        simulator = self.simulator
        systems = simulator.systems(index)
        images = [
            render(systems.in_band(k)[0], band.observation, psf_choice=systems.psf_choice[k])
            for k, band in enumerate(simulator.preset.bands)
        ]
        lines = []
        for one in torch.stack(images, 1):
            diagonal = torch.cat([channel.diagonal()[:: max(1, min(channel.shape) // 16)] for channel in one])
            lines.append((diagonal / one.max()).to(torch.float64).tolist())
        return lines

    @property
    def card(self) -> dict[str, Any]:
        """What identifies it: to be kept beside results, and checked by `verify`."""
        return {
            "preset": self.simulator.preset.name,
            "split": self.simulator.random.split,
            "size": self.size,
            "seed": SEED,
            "label": self.simulator.label,
            "fingerprint": self.fingerprint,
            "reference": self.reference,
        }

    def verify(self, card: Mapping[str, Any]) -> None:
        """Raise LensgenError unless `card`, of an earlier run or another machine, is of this very benchmark."""
        for key in ("preset", "split", "size", "seed", "label", "fingerprint"):
            if card.get(key) != self.card[key]:
                raise LensgenError(
                    f"this is another benchmark: {key} is {self.card[key]!r} here and {card.get(key)!r} on the card. "
                    "Fix: the version of lensgen, preset, split and size with which the card was made."
                )
        ours = torch.tensor(self.reference)
        try:
            theirs = torch.tensor(card.get("reference"))
        except (TypeError, ValueError, RuntimeError):
            raise LensgenError("the card holds no reference pixels: it is not one of `Benchmark.card`.") from None
        if theirs.shape != ours.shape or not float((theirs - ours).abs().max()) <= _TOLERANCE:  # NaN is not
            raise LensgenError(
                "same parameters and other pixels: images are rendered differently here than where the card was made."
            )

    def save(self, path: str | Path, progress: bool = True) -> Path:
        """All images, labels and parameters into one HDF5 file, readable by every trainer's `--data`.

        The file appears under its name when it is complete.
        """
        import h5py  # only needed here

        path = Path(path)
        if path.suffix not in (".h5", ".hdf5"):
            raise ParameterError(f"path = {str(path)!r} must end in .h5 or .hdf5.")
        part = path.with_name(path.name + ".part")
        try:
            with h5py.File(part, "w") as file:
                file.attrs["card"] = json.dumps(self.card)
                file.attrs["class_names"] = list(self.simulator.class_names)
                file.attrs["input_scale"] = list(self.simulator.input_scale)
                file.attrs["pixel_scale"] = self.simulator.preset.bands[0].observation.pixel_scale
                if self.simulator.preset.z_convention is not None:  # whoever reads theta_E is to know whose it is
                    file.attrs["z_convention"] = self.simulator.preset.z_convention
                for batch in tqdm(self.batches(), total=-(-self.size // 256), unit="batch", disable=not progress):
                    columns = {"image": batch.image, "label": batch.label, "index": batch.index}
                    start = int(batch.index[0])
                    for name, value in {**columns, **batch.params}.items():
                        if name not in file:
                            file.create_dataset(name, (self.size, *value.shape[1:]), value.cpu().numpy().dtype)
                        file[name][start : start + len(batch)] = value.cpu().numpy()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path


def _numbers(systems: Systems) -> dict[str, Tensor]:
    """Every drawn number by name; slots that are not in use as 0."""
    numbers = {"label": systems.label, **systems.params}
    for k, amp in enumerate(systems.amp):
        numbers |= {f"amp {k} {name}": value for name, value in amp.items()}
    for component in systems.scene.components:
        for name, value in component.parameters.items():
            if component.count is not None:
                used = torch.arange(value.shape[1], device=value.device) < component.count[:, None]
                value = torch.where(used, value, torch.zeros_like(value))
            numbers[f"{component.name} {name}"] = value
    return numbers


def benchmark(preset: str | Path | Preset, split: str = "test", size: int = 15_000, **options: Any) -> Benchmark:
    """The frozen `size` images of a preset; see Benchmark for `options`."""
    return Benchmark(preset, split, size, **options)
