"""Random numbers of a training step: a pure function of seed, step and image, on however many processes it is taken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

import lensgen


def key_of(*parts: object) -> int:
    """A 62-bit seed that depends on all parts, for random numbers that must not depend on anything drawn before."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 2


@dataclass(frozen=True)
class Draws:
    """Masks, dropout and augmentation of a batch, keyed by the index of each image and not by its place in the batch.

    Args:
        seed: of the run.
        step: of the whole run, the same on all ranks; it gives an image that comes again other numbers.
        index: `[B]` int64, `Batch.index`.
        steps: of the whole run; 0 outside of training.
    """

    seed: int
    step: int
    index: Tensor
    steps: int = 0

    def uniforms(self, name: str, count: int) -> Tensor:
        """Uniforms in (0, 1) of the variable `name`: float32 `[B, count]`, on the device of `index`."""
        variable = f"training step {self.step}: {name}"  # no variable of the simulator is called so
        return lensgen.RandomSource(self.seed).uniforms(self.index, variable, count).to(torch.float32)
