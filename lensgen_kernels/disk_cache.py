"""Kernels on disk: a module named by the hash of its text and of everything else that its machine code depends on."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import llvmlite
import llvmlite.binding
import numba

from lensgen_kernels.cache_folder import cache_folder

_SUPPORT = (
    "correlate.py", "far_field.py", "intrinsics.py", "lanes.py", "support.py", "tables.py", "tiles.py",
)  # fmt: skip
_lock = threading.Lock()


@lru_cache(maxsize=1)
def _surroundings() -> str:
    """What the machine code depends on besides the module's text."""
    here = Path(__file__).parent
    support = [(here / name).read_text() for name in _SUPPORT]
    versions = [numba.__version__, llvmlite.__version__, sys.version, llvmlite.binding.get_host_cpu_name()]
    versions += [str(numba.config.CPU_NAME), str(numba.config.CPU_FEATURES)]
    return "\n".join([*versions, llvmlite.binding.get_host_cpu_features().flatten(), *support])


def _name(kind: str, text: str) -> str:
    return f"{kind}_{hashlib.sha256((_surroundings() + text).encode()).hexdigest()[:32]}"


def compiled(kind: str, text: str) -> bool:
    """Whether machine code of the module with this text is there."""
    return any((cache_folder() / "__pycache__").glob(f"{_name(kind, text)}.*.nbi"))


@lru_cache(maxsize=256)
def module(kind: str, text: str) -> ModuleType:
    """The module with this text, from memory, disk, or made now; `kind` begins its name."""
    name = _name(kind, text)
    with _lock:
        folder = cache_folder()
        path = folder / f"{name}.py"
        if not path.exists() or path.read_bytes() != text.encode():  # cut short by a full disk, or meddled with
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(text)
                Path(temporary).replace(path)  # whole or not at all, whoever else writes it at the same time
            finally:
                Path(temporary).unlink(missing_ok=True)
        machine_code = folder / "__pycache__"
        for kept in machine_code.glob(f"{name}.*.nb?"):
            if not kept.read_bytes().endswith(b"."):  # as every whole pickle does; numba would fail on half of one
                kept.unlink(missing_ok=True)
        if not any(machine_code.glob(f"{name}.*.nbi")):
            print(f"lensgen: compiling a kernel, once, into {folder} (some seconds)", file=sys.stderr, flush=True)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made  # numba's cache looks the module up
        spec.loader.exec_module(made)
        return made
