"""What a measurement was made on and with: machine, versions, commit, date, and how busy the machine was."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "lensgen", "torch", "numba", "llvmlite", "numpy", "scipy", "lenstronomy", "caustics", "caskade", "jax", "jaxlib",
    "jaxtronomy", "timm", "lightly", "lightning", "h5py", "cupy-cuda13x", "triton",
)  # fmt: skip


def usable_cores() -> list[int]:
    """The cores that this process may run on, fewer than the machine has under taskset or in a container."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_model() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cpu_flags() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return sorted(flag for flag in flags if flag in ("avx2", "fma") or flag.startswith("avx512"))


def versions() -> dict[str, str]:
    """Versions of the packages that matter, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe() -> dict[str, Any]:
    """Everything, as JSON can hold it."""
    changes = _git("status", "--porcelain")
    return {
        "cpu": cpu_model(),
        "cpu_flags": _cpu_flags(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_average": list(os.getloadavg()),
    }


def one_line(machine: dict[str, Any]) -> str:
    """The heading of a table."""
    parts = [machine["cpu"], f"{len(machine['usable_cores'])} of {machine['cores']} cores"]
    if machine["gpu"]:
        parts.append(machine["gpu"])
    packages = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    commit = (machine["commit"] or "unknown")[:10] + ("+" if machine["uncommitted_changes"] else "")
    return f"{'; '.join(parts)}; commit {commit}; {machine['date'][:10]}; Python {machine['python']}, {packages}"
