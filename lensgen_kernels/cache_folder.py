"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """$LENSGEN_CACHE, or `lensgen` in the user's cache folder, or in the temporary one if that cannot be written."""
    named = os.environ.get("LENSGEN_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [Path(named)] if named else [home / "lensgen", Path(tempfile.gettempdir()) / f"lensgen-{os.getuid()}"]
    for folder in choices:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        # code that is run is read from here: it must be ours, and nobody else's to change
        status = folder.stat()
        if os.access(folder, os.W_OK) and status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH:
            return folder
    raise OSError(
        f"no folder for compiled kernels: {', '.join(map(str, choices))} cannot be written, or others can write "
        "there too. Fix: set LENSGEN_CACHE to a folder of your own, or use engine='torch'."
    )
