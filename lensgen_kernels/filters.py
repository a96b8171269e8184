"""Lines that filter an image: the mean over a pixel's rays and the point-spread function are both filters.

They read `src`, h_in x w_in numbers, and write `dst`, h_out x w_out; `weights{k}` holds the weights of filter k.
"""

from __future__ import annotations

from dataclasses import dataclass

from lensgen_kernels.source import Source

_UNROLLED_TAPS = 40


@dataclass(frozen=True)
class Filter:
    """A separable filter over rows and columns: `out[i] = sum_m weights[m] in[stride i + m - before]`.

    Args:
        taps: how many weights.
        stride: input numbers per output number.
        before: by how much the first weight reaches beyond the edge.
        edge: "nearest" or "zero": what lies beyond.
    """

    taps: int
    stride: int
    before: int
    edge: str


@dataclass(frozen=True)
class DenseFilter:
    """A correlation with a square kernel of odd size, zeros beyond the edge."""

    size: int


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


def dense(source: Source, filter: DenseFilter, k: int, src: str, dst: str) -> None:
    radius = filter.size // 2
    with source.block("for i in range(h_out):"):
        source.line("d = i * w_out")
        with source.block("for j in range(w_out):"):
            source.line(f"put({dst}, d + j, zero)")
        with source.block(f"for m in range(max(0, {radius} - i), min({filter.size}, h_in + {radius} - i)):"):
            source.line(f"r = (i + m - {radius}) * w_in")
            with source.block(f"for q in range({filter.size}):"):
                source.line(f"w = weights{k}[m * {filter.size} + q]")
                source.line(f"o = r + q - {radius}")
                with source.block(f"for j in range(max(0, {radius} - q), min(w_in, w_in + {radius} - q)):"):
                    source.line(f"put({dst}, d + j, get({dst}, d + j) + w * get({src}, o + j))")
