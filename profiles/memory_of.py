"""How much memory this process uses, now and at most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def _from_status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), None)


def peak_bytes() -> int:
    """The largest resident set so far.

    By VmHWM where there is /proc: getrusage's ru_maxrss also counts what the process that started this one had.
    """
    peak = _from_status("VmHWM:")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak(device: str) -> None:
    """Starts the peak anew where the system lets it, so that imports do not hide what rendering takes."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def usage(device: str) -> dict[str, int]:
    """Bytes: `resident` now and `peak` since `forget_peak`; on CUDA also `cuda_peak` of torch's allocator."""
    peak = peak_bytes()
    found = {"resident": _from_status("VmRSS:") or peak, "peak": peak}
    if device == "cuda":
        found["cuda_peak"] = torch.cuda.max_memory_allocated()
    return found
