"""Runs kernels on CUDA devices: torch tensors in, on torch's current stream. CuPy loads and launches.

Nothing here is touched before the first kernel: CuPy is imported, and a CUDA context made, when one is launched.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lensgen_kernels import nvrtc
from lensgen_kernels.errors import DeviceError

POISON = False  # tests: memory that is about to be written holds NaN (or -1), so that what is not written shows
Argument: TypeAlias = Tensor | np.generic | np.ndarray  # an array of shape () is a scalar or a record
_WITHOUT_ASKING = 48 * 1024  # bytes of shared memory of a block; more of it must be asked for


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory to be written."""
    if POISON:
        return torch.full(
            shape, torch.nan if dtype in (torch.float32, torch.float64) else -1, dtype=dtype, device=device
        )
    return torch.empty(shape, dtype=dtype, device=device)


def index_of(device: torch.device) -> int:
    """The number of a CUDA device; that of "cuda" is the current one's."""
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass(frozen=True)
class Facts:
    """What a device has.

    Args:
        arch: e.g. "sm_90".
        multiprocessors: how many.
        shared: bytes of shared memory that a block can ask for.
        shared_of_all: bytes that all blocks of a multiprocessor share; 1 KiB of it goes with each block.
    """

    arch: str
    multiprocessors: int
    shared: int
    shared_of_all: int


@lru_cache(maxsize=64)
def _facts(index: int) -> Facts:
    about: Any = torch.cuda.get_device_properties(index)
    return Facts(
        f"sm_{about.major}{about.minor}", about.multi_processor_count, about.shared_memory_per_block_optin,
        about.shared_memory_per_multiprocessor,
    )  # fmt: skip


def facts(device: torch.device) -> Facts:
    """What a CUDA device has."""
    return _facts(index_of(device))


def available(device: torch.device) -> str | None:
    """Why kernels cannot run on a CUDA device, with the fix; or None if they can."""
    if (reason := _missing()) is not None:
        return reason
    try:
        nvrtc.target(facts(device).arch)
    except DeviceError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def _missing() -> str | None:
    if torch.version.cuda is None:
        return "torch was built without CUDA. Fix: install torch for CUDA, as pytorch.org says"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device, or no driver. Fix: install NVIDIA's driver, until nvidia-smi lists a device"
    major = torch.version.cuda.partition(".")[0]
    try:
        import cupy

        built = cupy.cuda.runtime.runtimeGetVersion() // 1000
    except Exception as error:  # not there, or there and broken in one of many ways
        return f"CuPy cannot be used ({error}). Fix: pip install cupy-cuda{major}x"
    if str(built) != major:
        return (
            f"CuPy is for CUDA {built} and torch for CUDA {major}. Fix: pip uninstall cupy-cuda{built}x, then "
            f"pip install cupy-cuda{major}x"
        )
    if (reason := nvrtc.available()) is not None:
        return reason
    if str(nvrtc.version()[0]) != major:  # the driver may be too old for its code
        return (
            f"NVRTC is of CUDA {nvrtc.version()[0]} and torch for CUDA {major}. "
            f"Fix: pip install 'cuda-bindings=={major}.*' nvidia-cuda-nvrtc{'' if int(major) > 12 else '-cu12'}"
        )
    return None


class _Loaded:
    """A kernel on one device."""

    def __init__(self, code: nvrtc.Compiled, name: str, index: int) -> None:
        from cupy.cuda import Module, driver

        self.code, self._driver, self._index = code, driver, index
        self._lock = threading.Lock()
        self._occupancy: dict[tuple[int, int], int] = {}
        with torch.cuda.device(index):
            module = Module()
            module.load(code.cubin)
            self.function = module.get_function(name)  # keeps the module
            static = driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, self.function.ptr)
        self._most = _facts(index).shared - static
        self.shared = _WITHOUT_ASKING - static  # how much dynamic shared memory a block may have

    def allow(self, shared: int) -> None:
        """Let blocks have so many bytes of dynamic shared memory."""
        if shared > self._most:
            raise DeviceError(
                f"a block of this kernel takes {shared} bytes of shared memory, and cuda:{self._index} has "
                f"{self._most} for it. Fix: smaller images, or engine='torch'."
            )
        with self._lock, torch.cuda.device(self._index):
            if shared > self.shared:
                torch.cuda.mem_get_info(self._index)  # a thread that is new to the device has no context yet
                attribute = self._driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                self._driver.funcSetAttribute(self.function.ptr, attribute, shared)
                self.shared = shared

    def occupancy(self, block: int, shared: int) -> int:
        if (block, shared) not in self._occupancy:
            if shared > self.shared:
                self.allow(shared)
            with torch.cuda.device(self._index):
                torch.cuda.mem_get_info(self._index)  # as above
                count = self._driver.occupancyMaxActiveBlocksPerMultiprocessor(self.function.ptr, block, shared)
            self._occupancy[block, shared] = count
        return self._occupancy[block, shared]


class Kernel:
    """One kernel of a text, on whichever devices it is launched; may be called from several threads.

    Args:
        text: CUDA C++, see `nvrtc.compiled`.
        name: of an `extern "C" __global__` function in it.
        options: for NVRTC.
    """

    def __init__(self, text: str, name: str, options: tuple[str, ...] = nvrtc.IMAGE) -> None:
        self.text, self.name, self.options = text, name, options
        self._loaded: dict[int, _Loaded] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Kernel], tuple[str, str, tuple[str, ...]]]:
        """Another process loads it by itself."""
        return Kernel, (self.text, self.name, self.options)

    def _on(self, index: int) -> _Loaded:
        with self._lock:
            if index not in self._loaded:
                device = torch.device("cuda", index)
                if (reason := available(device)) is not None:
                    raise DeviceError(f"kernels cannot run on {device}: {reason}, or use engine='torch'.")
                code = nvrtc.compiled(self.text, facts(device).arch, self.options)
                self._loaded[index] = _Loaded(code, self.name, index)
            return self._loaded[index]

    def compiled(self, device: torch.device) -> nvrtc.Compiled:
        """Its code for a device, with the registers that it takes."""
        return self._on(index_of(device)).code

    def launch(self, device: torch.device, grid: int, block: int, shared: int, args: Sequence[Argument]) -> None:
        """Start it on torch's current stream of the device, and do not wait.

        Memory of the tensors may be let go at once, as with torch's own operations: torch gives it to others on the
        same stream alone.

        Args:
            grid: blocks; nothing is done for 0.
            block: threads a block.
            shared: bytes of dynamic shared memory a block.
            args: contiguous tensors on the device; NumPy scalars, or arrays of shape () of a structured dtype that is
                laid out as the kernel's struct, which go by value.
        """
        if grid == 0:
            return
        index = index_of(device)
        loaded = self._loaded.get(index) or self._on(index)
        pointers = tuple([_argument(k, arg, index, self.name) for k, arg in enumerate(args)])
        if torch.cuda.current_device() == index:
            _start(loaded, grid, block, shared, pointers, index)
        else:
            with torch.cuda.device(index):  # CuPy launches in the context that is current, and torch makes it so
                _start(loaded, grid, block, shared, pointers, index)

    def occupancy(self, device: torch.device, block: int, shared: int) -> int:
        """How many blocks of so many threads and bytes of dynamic shared memory a multiprocessor runs at a time."""
        return self._on(index_of(device)).occupancy(block, shared)


def _argument(k: int, arg: Argument, index: int, name: str) -> Any:
    """What CuPy passes on: a tensor's address, or the value itself."""
    if isinstance(arg, Tensor):
        # a kernel writes where it is told to: what is wrong here would be found as a crash elsewhere
        if arg.get_device() != index or not arg.is_contiguous():
            kind = "" if arg.is_contiguous() else "strided "
            raise TypeError(
                f"argument {k} of {name}: a {kind}tensor on {arg.device}; give contiguous ones on cuda:{index}."
            )
        return arg.data_ptr()
    if isinstance(arg, np.generic) or (isinstance(arg, np.ndarray) and arg.ndim == 0):
        return arg
    raise TypeError(
        f"argument {k} of {name}: {arg!r} has no size that a kernel knows; give a tensor, a NumPy scalar or a NumPy "
        "record of shape ()."
    )


def _start(loaded: _Loaded, grid: int, block: int, shared: int, pointers: tuple, index: int) -> None:
    if shared > loaded.shared:
        loaded.allow(shared)
    stream = _stream(torch.cuda.current_stream(index).cuda_stream)
    loaded.function((grid, 1, 1), (block, 1, 1), pointers, shared, stream)


@lru_cache(maxsize=256)
def _stream(address: int) -> Any:
    """CuPy's name for one of torch's streams; it holds the address and nothing else."""
    from cupy.cuda import ExternalStream

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of CuPy 14, whose successor CuPy 13 lacks
        return ExternalStream(address)
