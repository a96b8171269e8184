"""The filters of an image that a block of threads renders, as CUDA C."""

from __future__ import annotations

import numpy as np

from lensgen_kernels.block_formula import function
from lensgen_kernels.block_layout import Geometry
from lensgen_kernels.program import Filter, ImageProgram


def optics_text(program: ImageProgram, geometry: Geometry) -> str:
    """`lg_optics`, which filters samples to pixels and says where these lie."""
    lines, height, width, source, other = [], geometry.height, geometry.width, "light", "spare"
    dense = separable = 0
    for filter in program.filters:
        if isinstance(filter, Filter):
            zero = "true" if filter.edge == "zero" else "false"
            lines.append(
                f"lg_separable<{height}, {width}, {filter.stride}, {filter.taps}, {filter.before}, {zero}>"
                f"({source}, {other}, {source}, in.weights{separable});"
            )
            separable += 1
        else:
            size = geometry.kernels[dense]
            lines.append(
                f"lg_dense<{height}, {width}, {filter.stride}, {size}>({source}, {other}, in.kernel[{dense}] + "
                f"in.choice.at[image * in.choice.step] * {kernel_floats(size, filter.stride)});"
            )
            dense, source, other = dense + 1, other, source
        height, width = height // filter.stride, width // filter.stride
    return function(
        "LG_FUNCTION lg_memory<float> lg_optics(const lg_inputs& in, int image, lg_memory<float> light, "
        "lg_memory<float> spare)",
        [*lines, f"return {source};"],
    )


def kernel_floats(size: int, stride: int) -> int:
    """Numbers of one kernel as `lg_dense` takes it."""
    return size * stride * (-(-size // stride) + 6)


def dense_weights(kernels: np.ndarray, stride: int) -> np.ndarray:
    """Kernels `[n, k, k]` as `lg_dense` takes them: float32 `[n, columns k, stride, rows between three zeros]`."""
    n, k, _ = kernels.shape
    rows = -(-k // stride)
    padded = np.zeros((n, rows * stride, k))
    padded[:, :k] = kernels
    columns = padded.reshape(n, rows, stride, k).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(np.pad(columns, ((0, 0), (0, 0), (0, 0), (3, 3))), np.float32)
