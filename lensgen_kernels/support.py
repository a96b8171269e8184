"""What every CPU kernel calls: random numbers, scratch memory, the search of a table.

Random numbers are those of Philox4x32-10 (Salmon et al. 2011, SC'11): one loop over counters, for the
vector units.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lensgen_kernels.intrinsics import be_copied, put, stay_a_call, uniform_of_word

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@njit
def round_(c0, c1, c2, c3, k0, k1):
    be_copied()
    product0, product1 = _M0 * c0, _M1 * c2
    return (product1 >> _32) ^ c1 ^ k0, product1 & _MASK, (product0 >> _32) ^ c3 ^ k1, product0 & _MASK


@njit
def words(block, name, index, k0, k1):
    """Four 32-bit words, as uint64, of counter (block, name, index) and key (k0, k1)."""
    be_copied()
    c0, c1, c2, c3 = block, name, index & _MASK, index >> _32
    for _ in range(9):  # LLVM unrolls it
        c0, c1, c2, c3 = round_(c0, c1, c2, c3, k0, k1)
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return round_(c0, c1, c2, c3, k0, k1)


@njit(error_model="numpy")
def uniforms(out, blocks, k0, k1, name, index):
    """float32 uniforms (n + 1/2) / 2**23 of an image: four for each of `blocks` counters."""
    image = np.uint64(index)
    for block in range(blocks):
        w0, w1, w2, w3 = words(np.uint64(block), name, image, k0, k1)
        put(out, 4 * block, uniform_of_word(w0))
        put(out, 4 * block + 1, uniform_of_word(w1))
        put(out, 4 * block + 2, uniform_of_word(w2))
        put(out, 4 * block + 3, uniform_of_word(w3))


@njit
def uniform(position, name, index, k0, k1):
    """float64 uniform number `position` of an image."""
    stay_a_call()
    w0, w1, w2, w3 = words(np.uint64(position >> 2), np.uint64(name), index, k0, k1)
    which = position & 3
    word = w0 if which == 0 else w1 if which == 1 else w2 if which == 2 else w3
    return (np.float64(np.int64(word >> np.uint64(9))) + 0.5) * 2.0**-23


@njit
def bisect_left(table, x, count):
    """How many of the first `count` numbers of a rising table are less than x."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if table[middle] < x:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def scratch(size, poison):
    """float32 memory to be written; with NaN in it when a test looks for what is not."""
    memory = np.empty(size, np.float32)
    if poison:
        memory[:] = np.nan
    return memory
