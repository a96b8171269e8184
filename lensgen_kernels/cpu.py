"""Runs kernels on the CPU: NumPy arrays in, threads over images."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from lensgen_kernels.disk_cache import compiled, module
from lensgen_kernels.image_kernel import image_source
from lensgen_kernels.program import ImageProgram

_IMAGES, _DRAWS = 16, 256  # systems that a thread takes at a time
POISON = False  # tests: memory that is about to be written holds NaN, so that what is not written shows


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """float32 memory to be written."""
    return np.full(shape, np.nan, np.float32) if POISON else np.empty(shape, np.float32)


def spread(work: Callable[[int, int], None], systems: int, threads: int, share: int) -> None:
    """`work(first, last)` for shares of the systems, on several threads; kernels let go of Python's lock."""
    threads = min(threads, -(-systems // share))
    if threads <= 1:
        work(0, systems)
        return
    starts = itertools.count(0, share)  # each thread takes the next share when it is done: images differ in cost

    def run() -> None:
        while (first := next(starts)) < systems:
            work(first, min(first + share, systems))

    # threads of this call alone: a pool that is kept does not survive a fork
    with ThreadPoolExecutor(threads - 1, "lensgen") as pool:
        others = [pool.submit(run) for _ in range(threads - 1)]
        run()
        for other in others:
            other.result()


@lru_cache(maxsize=256)
def prepare(program: ImageProgram) -> str:
    """The source of a program's kernel; TranslationError for a formula that cannot be translated."""
    return image_source(program)


@lru_cache(maxsize=256)
def _renderer(program: ImageProgram) -> Callable:
    return module("image", prepare(program)).render


def render(
    program: ImageProgram,
    out: np.ndarray,
    scalars: np.ndarray,
    slots: list[tuple[np.ndarray, np.ndarray]],
    stacks: list[np.ndarray],
    rays: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
    area: float,
    weights: list[np.ndarray],
    choice: np.ndarray,
    noise: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    threads: int,
) -> None:
    """Render B images.

    Args:
        program: what they are made of.
        out: float32 `[B, H * W]`, written.
        scalars: float32 `[B, S]`, the parameters of terms without slots, then the scale of deflections where there is
            one, then those of lights, in the program's order.
        slots: for each term with slots, parameters float32 `[B, N, P]` and counts int64 `[B]`.
        stacks: of each term that has any, in the order of `slots` and with those of slotted lenses first: float32
            `[n * h * w]`.
        rays: x and y, float32 `[R]`, R at least rows x columns and a multiple of 16; rays beyond are worked on and
            dropped.
        shape: rows and columns of the rays.
        area: factor on every surface brightness.
        weights: of each filter, float32; see `filters`.
        choice: int64 `[B]`, which of the kernels of dense filters each image takes.
        noise: exposures float32 `[B]`, indices int64 `[B]`, keys uint64 (two of the seed, one for each random number)
            and the detector's numbers float32.
        threads: how many.
    """
    kernel = _renderer(program)
    exposures, index, keys, detector = noise
    arrays = [array for pair in slots for array in pair]

    def work(first: int, last: int) -> None:
        kernel(
            out.reshape(-1), scalars, *rays, shape[0] * shape[1], *shape, np.float32(area), exposures, index, keys,
            detector, *weights, choice, *arrays, *stacks,
            first, last, POISON,
        )  # fmt: skip

    spread(work, len(out), threads, _IMAGES)


@lru_cache(maxsize=256)
def _systems(source: str) -> Callable:
    return module("systems", source).draw


def is_compiled(source: str) -> bool:
    """Whether machine code of the kernel of this source, for `draw`, is kept on disk."""
    return compiled("systems", source)


def draw(
    source: str,
    index: np.ndarray,
    key: tuple[int, int],
    real: np.ndarray,
    whole: np.ndarray,
    threads: int,
) -> bool:
    """Draw B systems.

    Args:
        source: from `system_kernel.system_source`.
        index: int64 `[B]`.
        key: of the random numbers.
        real, whole: float32 `[B, R]` and int64 `[B, W]`, written where systems have values of their own.
        threads: how many.

    Returns:
        Whether all checks hold; where one does not, what was written is void.
    """
    kernel = _systems(source)
    failed = np.zeros(1, np.int64)
    k0, k1 = map(np.uint64, key)
    spread(lambda first, last: kernel(first, last, index, k0, k1, real, whole, failed), len(index), threads, _DRAWS)
    return not failed[0]
