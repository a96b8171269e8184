"""The GPU and the software that drives it, as JSON: `python -m profiles.card --out FILE`.

Without a GPU, the CPU's name.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from lensgen_kernels import nvrtc
from profiles import machine, report

_ASKED = {
    "driver": "driver_version", "mig": "mig.mode.current", "clock_mhz": "clocks.sm",
    "highest_clock_mhz": "clocks.max.sm", "power_limit_w": "power.limit", "temperature_c": "temperature.gpu",
}  # fmt: skip
# The H200 that the limits were worked out for, and the H100 with the same processor: they differ in memory, which does
# not limit these kernels.
_SAME_PROCESSOR = (9, 0), 132  # compute capability and multiprocessors


@dataclass(frozen=True)
class Card:
    """Describes the GPU."""

    out: Path
    """A JSON file."""


def slug(name: str) -> str:
    """A card's name as part of a file's name: NVIDIA H200 -> h200."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("nvidia", "")).strip("_") or "unknown"


def has_the_limits(card: dict[str, Any]) -> bool:
    """Whether the limits and speeds that were worked out for an H200 are those of this card."""
    return (tuple(card.get("capability", ())), card.get("multiprocessors")) == _SAME_PROCESSOR


def _from_driver(which: str) -> dict[str, str]:
    """What the driver's own tool says, or nothing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED.values())}", "--format=csv,noheader,nounits", "-i", which]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in done.stdout.strip().splitlines()[0].split(",")]
    return dict(zip(_ASKED, values, strict=False))


def _version_of_nvrtc() -> str:
    reason = nvrtc.available()
    return f"none: {reason}" if reason is not None else ".".join(map(str, nvrtc.version()))


def _version_of_cupy() -> str:
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return ", ".join(f"{name} {version}" for name, version in found.items() if name.startswith("cupy")) or "none"


def describe() -> dict[str, Any]:
    """Card, driver and libraries, as JSON can hold them."""
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cupy": _version_of_cupy(),
        "nvrtc": _version_of_nvrtc(),
    }
    if not torch.cuda.is_available():
        return {"name": machine.cpu_model(), "cuda": False, **found}
    about = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return {
        "name": about.name,
        "cuda": True,
        "capability": [about.major, about.minor],
        "multiprocessors": about.multi_processor_count,
        "memory_bytes": total,
        "free_bytes": free,
        "l2_bytes": getattr(about, "L2_cache_size", None),
        **_from_driver(f"GPU-{about.uuid}" if hasattr(about, "uuid") else "0"),
        **found,
    }


def main(argv: list[str] | None = None) -> None:
    """Writes the description."""
    config = tyro.cli(Card, args=argv, prog="python -m profiles.card")
    config.out.write_text(json.dumps(describe() | {"machine": machine.describe()}, indent=1) + "\n")


if __name__ == "__main__":
    report.run(main)
