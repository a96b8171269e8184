"""What can go wrong in a training run, and which exception says so.

All are `LensgenError`s, so that a trainer's command line catches one class and prints its message without a traceback.
"""

from __future__ import annotations

from lensgen.errors import LensgenError


class ConfigError(LensgenError, ValueError):
    """An option, a recipe or a combination of options is not allowed."""


class DataError(LensgenError, ValueError):
    """A stored set cannot be read, or does not hold what a trainer needs."""


class CheckpointError(LensgenError, RuntimeError):
    """A checkpoint is missing, damaged, foreign, of another model, or could not be written."""


class OutputError(LensgenError, RuntimeError):
    """Logs, figures or the summary could not be written, for instance because the disk is full."""


class TrainingError(LensgenError, RuntimeError):
    """Training cannot go on, for instance because the loss is not finite."""
