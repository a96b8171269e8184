"""Lines that filter an image: the mean over a pixel's rays and the point-spread function are both filters.

They read `src`, h_in x w_in numbers, and write `dst`, h_out x w_out; `weights{k}` holds the weights of filter k: a row
of them, or what `dense_weights` makes of kernels.
"""

from __future__ import annotations

import numpy as np

from lensgen_kernels.correlate import CORRELATE, TILE_ROWS
from lensgen_kernels.lanes import LANES
from lensgen_kernels.program import DenseFilter, Filter
from lensgen_kernels.source import Source

_UNROLLED_TAPS = 40


def _filtered_row(source: Source, filter: Filter, k: int, src: str) -> None:
    """Row i of the filter's output, at `row[before : before + width]` of its padded input, columns still to do."""
    taps, before = filter.taps, filter.before
    unrolled = taps <= _UNROLLED_TAPS
    if unrolled:
        for m in range(taps):
            source.line(f"r{m} = {filter.stride} * i + {m - before}")
            if filter.edge == "zero":
                source.line(f"w{m} = weights{k}[{m}] if 0 <= r{m} < h_in else zero")
            else:
                source.line(f"w{m} = weights{k}[{m}]")
            source.line(f"r{m} = min(max(r{m}, 0), h_in - 1) * w_in")
        starts, factors = (", ".join(f"{name}{m}" for m in range(taps)) for name in "rw")
        source.line(f"weighted_sum(row, {before}, {src}, ({starts},), ({factors},), w_in)")
    else:
        with source.block("for j in range(w_in):"):
            source.line(f"put(row, {before} + j, zero)")
        with source.block(f"for m in range({taps}):"):
            source.line(f"r = {filter.stride} * i + m - {before}")
            if filter.edge == "zero":
                with source.block("if r < 0 or r >= h_in:"):
                    source.line("continue")
            source.line("r = min(max(r, 0), h_in - 1) * w_in")
            source.line(f"w = weights{k}[m]")
            with source.block("for j in range(w_in):"):
                source.line(f"put(row, {before} + j, get(row, {before} + j) + w * get({src}, r + j))")
    after = taps - before - filter.stride
    left, right = ("zero", "zero") if filter.edge == "zero" else (f"row[{before}]", f"row[{before} + w_in - 1]")
    for margin, start, value in ((before, "0", left), (after, f"{before} + w_in", right)):
        if margin > 0:
            source.line(f"edge = {value}")
            with source.block(f"for j in range({margin}):"):
                source.line(f"row[{start} + j] = edge")


def separable(source: Source, filter: Filter, k: int, src: str, dst: str) -> None:
    s = filter.stride
    with source.block("for i in range(h_out):"):
        _filtered_row(source, filter, k, src)
        source.line("o = i * w_out")
        if filter.taps <= _UNROLLED_TAPS:
            for m in range(filter.taps):
                source.line(f"w{m} = weights{k}[{m}]")
            starts, factors = (", ".join(f"{n}{m}" if n else f"{m}" for m in range(filter.taps)) for n in ("", "w"))
            if s == 1:
                source.line(f"weighted_sum({dst}, o, row, ({starts},), ({factors},), w_out)")
            else:
                with source.block("for j in range(w_out):"):
                    terms = " + ".join(f"w{m} * get(row, {s} * j + {m})" for m in range(filter.taps))
                    source.line(f"put({dst}, o + j, {terms})")
        else:
            with source.block("for j in range(w_out):"):
                source.line(f"put({dst}, o + j, zero)")
            with source.block(f"for m in range({filter.taps}):"):
                source.line(f"w = weights{k}[m]")
                with source.block("for j in range(w_out):"):
                    source.line(f"put({dst}, o + j, get({dst}, o + j) + w * get(row, {s} * j + m))")


def allocate(source: Source, filter: DenseFilter, k: int, divisor: int) -> None:
    """Before the images: what of dense filter k is the same for all. Its output has width // divisor columns."""
    s = filter.stride
    source.line(f"rows{k} = weights{k}.shape[1] - {2 * s} * (TILE_ROWS - 1)")
    source.line(f"taps{k} = weights{k}.shape[3]")
    source.line(f"one{k} = weights{k}.shape[1] * {s} * taps{k}")
    source.line(f"flat{k} = weights{k}.reshape(-1)")
    source.line(f"before{k} = (rows{k} - {s}) // 2")
    source.line(f"margin{k} = (before{k} + {s - 1}) // {s}")
    source.line(f"step{k} = (width // {divisor} + LANES - 1) // LANES * LANES + taps{k}")
    source.line(f"lines{k} = np.zeros(height // {divisor // s} * {s} * step{k}, np.float32)")
    source.line(f"tile{k} = scratch(TILE_ROWS * TILE_WIDTH, poison)")


def dense(source: Source, filter: DenseFilter, k: int, src: str, dst: str) -> None:
    s = filter.stride
    # every s-th column of a row in a line of its own, between zeros: what an output row's taps need lies side by side
    with source.block("for i in range(h_in):"), source.block(f"for c in range({s}):"):
        source.line(f"o = (i * {s} + c) * step{k} + margin{k}")
        source.line("r = i * w_in + c")
        with source.block("for j in range(w_out):"):
            source.line(f"put(lines{k}, o + j, get({src}, r + {s} * j))")
    with source.block("for i in range(0, h_out, TILE_ROWS):"):
        source.line(f"top = {s} * i - before{k}")
        source.line("begin = max(0, top)")
        source.line(f"end = min(h_in, top + {s} * (TILE_ROWS - 1) + rows{k})")
        source.line(f"first_weight = choice[b] * one{k} + (begin - top + {s} * (TILE_ROWS - 1)) * {s} * taps{k}")
        with source.block("for j in range(0, w_out, TILE_WIDTH):"):
            source.line("n = min(w_out - j, TILE_WIDTH)")
            arguments = (
                f"tile{k}, lines{k}, begin * {s} * step{k} + j, step{k}, (end - begin) * {s}, flat{k}, first_weight, "
                f"{s * s} * taps{k}, taps{k}"
            )
            for vectors in CORRELATE:
                with source.block(f"{'el' if vectors > 1 else ''}if n <= {vectors * LANES}:"):
                    source.line(f"correlate{vectors}({arguments})")
            with source.block("for a in range(min(TILE_ROWS, h_out - i)):"):
                source.line("o = (i + a) * w_out + j")
                with source.block("for q in range(n):"):
                    source.line(f"put({dst}, o + q, get(tile{k}, a * TILE_WIDTH + q))")


def dense_weights(kernels: np.ndarray, stride: int) -> np.ndarray:
    """Weights of a `DenseFilter` as its lines take them, of kernels `[n, k, k]`.

    `[n, k + 2 s (TILE_ROWS - 1), s, taps]`: rows of zeros above and below, for a tile's rows share their loops; the
    weights of every s-th column side by side.
    """
    n, k, _ = kernels.shape
    before = (k - stride) // 2
    ahead = -before % stride  # columns that stand before the kernel's first in its line
    taps = -(-(k + ahead) // stride)
    rows = stride * (TILE_ROWS - 1)
    padded = np.pad(kernels, ((0, 0), (rows, rows), (ahead, taps * stride - k - ahead)))
    columns = padded.reshape(n, k + 2 * rows, taps, stride).swapaxes(2, 3)
    return np.ascontiguousarray(columns, np.float32)
