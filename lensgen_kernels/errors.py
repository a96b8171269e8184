"""What can go wrong in a translation, and where it stands; and on the way to a device."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import numpy as np
import torch


class TranslationError(TypeError):
    """A formula does something that cannot be translated; the message names file, line and the fix."""


class CompilationError(RuntimeError):
    """The text of a CUDA kernel does not compile; the message holds the compiler's first lines."""


class DeviceError(RuntimeError):
    """A CUDA device that kernels cannot run on; the message names what is missing and how to get it."""


_HERE = str(Path(__file__).parent)
_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(np.__file__).parent))


def is_ours(file: str) -> bool:
    """Whether a file is the translator's or a library's, and no formula's."""
    return file.startswith((_HERE, *_LIBRARIES, "<"))


def place() -> str:
    """File and line of the code that is being traced."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_ours(file):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown place"


def reject(what: str, fix: str) -> TranslationError:
    return TranslationError(f"{place()}: {what} cannot be translated. Fix: {fix}.")
