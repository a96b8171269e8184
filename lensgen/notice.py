"""What a user should know once: one line on standard error."""

from __future__ import annotations

import sys

from torch.utils.data import get_worker_info

_said: set[str] = set()


def say_once(text: str) -> None:
    """Print a line, the first time in this process; never from a DataLoader's worker, whose main process says it."""
    if text not in _said and get_worker_info() is None:
        _said.add(text)
        print(f"lensgen: {text}", file=sys.stderr, flush=True)
