"""Parameters drawn on one device against another's, bit for bit: `python -m profiles.draws`.

Every number of every system is compared: parameters of all components, slots of subhalos that hold none included,
labels, exposures. First a few systems of each preset, against torch's on the CPU; then many of some, against those of
the CPU's compiled kernel, in blocks that begin at indices far apart, until enough numbers were compared or the time is
over. Whatever differs is named: preset, system, number and both values.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

import lensgen
from lensgen import Simulator
from lensgen.device import resolve_device
from lensgen.draw import Systems, draw
from lensgen.errors import lookup, require_whole
from lensgen.render import pick_engine
from lensgen.scene import Component
from profiles import machine, report

_FARTHEST = 2**61  # of the first indices of blocks
_NAMED = 10  # differences that are written down


@dataclass(frozen=True)
class Draws:
    """Compares the numbers that two devices draw."""

    presets: tuple[str, ...] = ()
    """All by default."""
    bulk: tuple[str, ...] = ("model_a", "model_b", "deeplense_ii_legacy")
    """Those of which many systems are compared, by kernels on both sides."""
    device: Literal["cpu", "cuda"] = "cuda"
    """Which is compared with the CPU."""
    engine: str = "auto"
    """Of that device; drawing on the CPU is by its fastest engine."""
    numbers: float = 1e8
    """How many to compare."""
    few: int = 2048
    """Systems of each preset, at first."""
    block: int = 65_536
    """Systems of a block after that."""
    seed: int = 0
    """Of the systems."""
    budget: float | None = None
    """No block begins after so many seconds."""
    out: Path | None = None
    """Results without suffix; profiles/results/draws by default."""

    def __post_init__(self) -> None:
        for name in (*self.presets, *self.bulk):
            lookup("preset", name, dict.fromkeys(lensgen.presets()))
        require_whole("--few", self.few, 1, 2**24)
        require_whole("--block", self.block, 1, 2**24)
        pick_engine(self.engine, resolve_device(self.device), torch.float32)  # refuses what cannot be


def numbers_of(systems: Systems) -> dict[str, Tensor]:
    """All tensors of drawn systems, by where they are."""
    return dict(_walk(systems, ""))


def _walk(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _walk(part, f"{place}.{key}")
    elif isinstance(value, (tuple, list)):
        for number, part in enumerate(value):
            yield from _walk(part, f"{place}.{number if isinstance(part, Tensor) else getattr(part, 'name', number)}")
    elif isinstance(value, Component):  # not its profile and images
        yield from _walk(value.parameters, place)
        yield from _walk(value.count, f"{place}.count")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name), f"{place}.{field.name}".lstrip("."))


def _bits(values: Tensor) -> Tensor:
    """So that -0 is not 0, and NaN is NaN."""
    return values.contiguous().view(torch.int32) if values.dtype == torch.float32 else values


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor], preset: str, index: Tensor) -> dict[str, Any]:
    """How many numbers there are, how many differ, and the first of those."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{preset}: the devices draw other things: {sorted(ours.keys() ^ theirs.keys())}.")
    count, different, named = 0, 0, []
    for place, values in theirs.items():
        other = ours[place].cpu()
        count += 0 if place.startswith("smooth.") else values.numel()  # which repeats most of the scene
        if other.dtype == values.dtype and torch.equal(_bits(other), _bits(values)):
            continue
        off = (_bits(other) != _bits(values)).nonzero()
        different += len(off)
        for row in off[:_NAMED].tolist():
            at = tuple(row)
            named.append(
                f"{preset}, index {int(index[row[0]])}, {place}{row[1:] or ''}: {float(other[at])!r}, "
                f"not {float(values[at])!r}"
            )
    return {"numbers": count, "different": different, "named": named[:_NAMED]}


def first_index(block: int, size: int) -> int:
    """Of block number `block`: from 0, and from anywhere below 2^61 in turns."""
    return block * size if block % 2 == 0 else (block * 0x9E3779B97F4A7C15) % _FARTHEST


def blocks_of(config: Draws) -> Iterator[tuple[str, int, bool]]:
    """Preset, number of the block, and whether it is one of the few at first."""
    for name in config.presets or lensgen.presets():
        yield name, 0, True
    for block in itertools.count(1) if config.bulk else ():
        for name in config.bulk:
            yield name, block, False


class _Pair:
    """Both sides of a preset."""

    def __init__(self, config: Draws, name: str) -> None:
        self.ours = Simulator(name, config.seed, config.device, config.engine)

    def draw(self, index: Tensor, few: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The numbers of the systems `index` `[B]`, of the device and of the CPU."""
        ours = numbers_of(self.ours._draw(index.to(self.ours.device)))
        fused = None if few else self._kernel
        drawn = draw(self.ours.preset, self.ours.random, index) if fused is None else fused(self.ours.random, index)
        return ours, numbers_of(drawn)

    @cached_property
    def _kernel(self) -> Any:
        """The CPU's drawing kernel, compiled at once; None where a preset is drawn by torch."""
        if importlib.util.find_spec("numba") is None:
            return None
        from lensgen.fused_draw import drawer

        return drawer(self.ours.preset, torch.float32)


def measure(config: Draws) -> dict[str, Any]:
    """What was compared, for each preset and in all."""
    begin, longest, compared = time.monotonic(), 0.0, 0
    pairs: dict[str, _Pair] = {}
    totals: dict[str, dict[str, int]] = {}
    named: list[str] = []
    for name, block, few in blocks_of(config):
        started = time.monotonic()
        if compared >= config.numbers and not few:
            break
        if config.budget is not None and started - begin + longest > config.budget:
            break
        size = config.few if few else config.block
        first = first_index(block, size)
        index = torch.arange(first, first + size)
        pair = pairs[name] = pairs.get(name) or _Pair(config, name)
        found = compare(*pair.draw(index, few), name, index)
        total = totals.setdefault(name, {"systems": 0, "numbers": 0, "different": 0})
        total["systems"] += size
        for key in ("numbers", "different"):
            total[key] += found[key]
        named += found["named"]
        compared, longest = compared + found["numbers"], max(longest, time.monotonic() - started)
        report.note(f"{name}: {compared:.2e} numbers in all, {len(named)} differences named")
    return {
        "numbers": compared,
        "wanted": config.numbers,
        "different": sum(total["different"] for total in totals.values()),
        "named": named[:_NAMED],
        "seconds": time.monotonic() - begin,
        "presets": totals,
    }


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    settings, found = content["settings"], content["result"]
    rows = [
        [name, f"{total['systems']:,}", f"{total['numbers']:,}", f"{total['different']:,}"]
        for name, total in found["presets"].items()
    ]
    parts = [
        "# Drawn numbers",
        machine.one_line(content["machine"]),
        f"Drawn on {settings['device']} by engine {settings['engine']} and on the CPU: {found['numbers']:,} numbers in "
        f"{found['seconds']:.0f} s, **{found['different']:,} differ**.",
        report.markdown(["preset", "systems", "numbers", "different"], rows),
        *(f"- {line}" for line in found["named"]),
    ]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Compares and reports, as the command line says."""
    config = tyro.cli(Draws, args=argv, prog="python -m profiles.draws")
    out = report.where(config.out, "draws")
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
    settings["engine"] = pick_engine(config.engine, resolve_device(config.device), torch.float32)
    content = {"machine": machine.describe(), "settings": settings, "result": measure(config)}
    report.write(out, "draws", content, text_of(content))


if __name__ == "__main__":
    report.run(main)
