"""Counter-based random numbers: a value depends on (seed, split, index, name) alone.

Philox4x32-10 (Salmon et al. 2011, SC'11) is keyed by the seed; its counter holds the image's index, a hash of the
variable's name, and which group of four words is asked for. So a value is the same whatever else is drawn, in
whatever batch, on whatever device, and image 123,456,789 costs as much as image 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.errors import require_whole, unknown_name
from lensgen.twins import ORIGINAL, Twin

SPLITS = ("train", "val", "test")
MAX_SEED = 2**62 - 1  # two bits of the 64-bit key hold the split
_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def _product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """(high, low) 32 bits of a * b, both below 2**32, in int64 without overflow."""
    upper, lower = (a >> 16) * b, (a & 0xFFFF) * b
    middle = upper + (lower >> 16)
    return middle >> 16, ((middle << 16) | (lower & 0xFFFF)) & _MASK


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox: four int64 tensors of 32-bit counters and a key -> four of 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _product(_MULTIPLIERS[0], c0)
        high1, low1 = _product(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def name_hash(name: str) -> int:
    """The 32 bits that stand for a variable's name in the counter."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


@dataclass(frozen=True)
class RandomSource:
    """All random numbers of one seed and split; disjoint from those of every other.

    Args:
        seed: 0 to 2**62 - 1.
        split: "train", "val" or "test".
        twin: which variables are called otherwise, and so have other values.
    """

    seed: int
    split: str = "train"
    twin: Twin = ORIGINAL

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown_name("split", self.split, SPLITS)
        require_whole("seed", self.seed, 0, MAX_SEED)

    @property
    def key(self) -> tuple[int, int]:
        """Two 32-bit words of seed and split."""
        return self.seed & _MASK, (SPLITS.index(self.split) << 30) | (self.seed >> 32)

    def hash_of(self, name: str) -> int:
        """The 32 bits that stand for the variable `name` in the counter."""
        return name_hash(self.twin.called(name))

    def words(self, index: Tensor, name: str, count: int) -> Tensor:
        """`count` random 32-bit words for each index: int64 `[B]` -> int64 `[B, count]`, on index's device."""
        block = torch.arange((count + 3) // 4, device=index.device)
        index = index[:, None]
        counter = (block, torch.full_like(block, self.hash_of(name)), index & _MASK, index >> 32)
        return torch.stack(philox4x32(counter, self.key), dim=-1).flatten(1)[:, :count]

    def uniforms(self, index: Tensor, name: str, count: int) -> Tensor:
        """Uniforms in (0, 1), float64 `[B, count]`: odd multiples of 2**-24, exact in float32 too."""
        return uniform_from_word(self.words(index, name, count))


def uniform_from_word(word: Tensor) -> Tensor:
    """The upper 23 bits as (n + 1/2) / 2**23: never 0 and, unlike with 24 bits, never rounded to 1 in float32."""
    return ((word >> 9).to(torch.float64) + 0.5) * 2.0**-23
