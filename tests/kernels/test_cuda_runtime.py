"""Launching without a device: what reaches CuPy, on which device and stream, how often, and what is refused.

CuPy and torch's side of CUDA are stand-ins that write down what they are asked for. Kernels that run are in
tests/test_gpu_kernels.py.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from lensgen_kernels import cuda, nvrtc
from lensgen_kernels.errors import DeviceError

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda", 0)


class OnDevice(torch.Tensor):
    """Passes for a tensor on a device."""

    number = 0

    def get_device(self) -> int:
        return self.number


class OnSecond(OnDevice):
    number = 1


def on_device(tensor: torch.Tensor, kind=OnDevice) -> torch.Tensor:
    return tensor.as_subclass(kind)


class Machine:
    """Two devices: which is current, what was loaded and launched where."""

    def __init__(self) -> None:
        self.current, self.stream = 0, 11
        self.loaded: list[tuple[int, bytes]] = []
        self.launched: list[tuple] = []
        self.limits: list[tuple[int, int]] = []
        machine = self

        class Module:
            def load(self, code: bytes) -> None:
                machine.loaded.append((machine.current, code))

            def get_function(self, name: str):
                return Function(name)

        class Function:
            def __init__(self, name: str) -> None:
                self.name, self.ptr, self.device = name, 4711, machine.current

            def __call__(self, grid, block, args, shared_mem=0, stream=None) -> None:
                assert self.device == machine.current
                machine.launched.append((self.name, machine.current, grid, block, args, shared_mem, stream.ptr))

        class ExternalStream:
            def __init__(self, ptr: int) -> None:
                self.ptr = ptr

        self.driver = types.SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES=1,
            funcGetAttribute=lambda attribute, function: 1024 if attribute == 1 else -1,
            funcSetAttribute=lambda function, attribute, value: self.limits.append((attribute, value)),
            occupancyMaxActiveBlocksPerMultiprocessor=lambda function, block, shared: 2048 // block,
        )
        self.cupy = types.ModuleType("cupy")
        self.cupy.cuda = types.ModuleType("cupy.cuda")  # type: ignore[attr-defined]
        parts = {"Module": Module, "driver": self.driver, "ExternalStream": ExternalStream}
        self.cupy.cuda.__dict__.update(parts)
        self.cupy.cuda.runtime = types.SimpleNamespace(runtimeGetVersion=lambda: 13020)

    @contextlib.contextmanager
    def device(self, index: int):
        before, self.current = self.current, index
        yield
        self.current = before


@pytest.fixture
def forgetful():
    caches = (cuda._facts, cuda._missing, cuda._stream)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def machine(monkeypatch, forgetful) -> Machine:
    made = Machine()
    monkeypatch.setitem(sys.modules, "cupy", made.cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", made.cupy.cuda)
    about = types.SimpleNamespace(
        major=9, minor=0, multi_processor_count=132, shared_memory_per_block_optin=232448,
        shared_memory_per_multiprocessor=233472,
    )  # fmt: skip
    for name, stand_in in {
        "is_available": lambda: True,
        "current_device": lambda: made.current,
        "device": made.device,
        "mem_get_info": lambda index: (1, 1),
        "get_device_properties": lambda index: about,
        "current_stream": lambda index: types.SimpleNamespace(cuda_stream=made.stream + 100 * index),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(nvrtc, "available", lambda: None)
    monkeypatch.setattr(nvrtc, "target", lambda arch: arch)
    monkeypatch.setattr(
        nvrtc, "compiled", lambda text, arch, options: nvrtc.Compiled(f"{text} for {arch}".encode(), arch)
    )
    return made


def test_a_launch(machine) -> None:
    out, scalar = on_device(torch.zeros(4)), np.float32(0.5)
    cuda.Kernel("text", "name").launch(DEVICE, 7, 256, 100, [out, scalar, np.int64(3)])
    assert machine.loaded == [(0, b"text for sm_90")]
    (launched,) = machine.launched
    assert launched == ("name", 0, (7, 1, 1), (256, 1, 1), (out.data_ptr(), scalar, np.int64(3)), 100, 11)
    assert launched[4][1] is scalar  # with its type


def test_a_record_goes_by_value(machine) -> None:
    record = np.zeros((), np.dtype([("out", np.uint64), ("weights", np.float32, (3,))], align=True))
    cuda.Kernel("text", "name").launch(DEVICE, 1, 32, 0, (record,))
    assert machine.launched[0][4][0] is record


def test_on_torch_s_current_stream_whatever_it_is(machine) -> None:
    kernel = cuda.Kernel("text", "name")
    for stream in (11, 12, 0, 12):
        machine.stream = stream
        kernel.launch(DEVICE, 1, 32, 0, [])
    assert [launch[-1] for launch in machine.launched] == [11, 12, 0, 12]
    assert len(machine.loaded) == 1


def test_on_another_device_than_the_current_one(machine) -> None:
    kernel = cuda.Kernel("text", "name")
    second = torch.device("cuda", 1)
    for device, kind in ((DEVICE, OnDevice), (second, OnSecond), (second, OnSecond), (DEVICE, OnDevice)):
        kernel.launch(device, 1, 32, 0, [on_device(torch.zeros(1), kind)])
    assert [(launch[1], launch[-1]) for launch in machine.launched] == [(0, 11), (1, 111), (1, 111), (0, 11)]
    assert machine.loaded == [(0, b"text for sm_90"), (1, b"text for sm_90")] and machine.current == 0


def test_cuda_without_a_number_is_the_current_device(machine) -> None:
    machine.current = 1
    cuda.Kernel("text", "name").launch(torch.device("cuda"), 1, 32, 0, [])
    assert machine.launched[0][1] == 1


def test_nothing_to_do(machine) -> None:
    cuda.Kernel("text", "name").launch(DEVICE, 0, 32, 0, [])
    assert machine.launched == []


def test_shared_memory_is_asked_for_once(machine) -> None:
    kernel = cuda.Kernel("text", "name")
    for shared in (0, 47 * 1024, 47 * 1024 + 1, 1000, 60_000, 60_000, 232448 - 1024):
        kernel.launch(DEVICE, 1, 32, shared, [])
    assert machine.limits == [(8, 47 * 1024 + 1), (8, 60_000), (8, 232448 - 1024)]  # 1 KiB of it is static
    with pytest.raises(DeviceError, match=r"takes 231425 bytes of shared memory, and cuda:0 has 231424.*Fix: smaller"):
        kernel.launch(DEVICE, 1, 32, 232448 - 1023, [])


def test_occupancy(machine) -> None:
    assert cuda.Kernel("text", "name").occupancy(DEVICE, 256, 100_000) == 8
    assert machine.limits == [(8, 100_000)]


def test_facts(machine) -> None:
    assert cuda.facts(DEVICE) == cuda.Facts("sm_90", 132, 232448, 233472)


@pytest.mark.parametrize(
    "argument, message",
    [
        (torch.zeros(3), r"argument 1 of name: a tensor on cpu; give contiguous ones on cuda:0"),
        (on_device(torch.zeros(3), OnSecond), r"argument 1 of name: a tensor on"),
        (on_device(torch.zeros(4, 4).T), r"a strided tensor"),
        (3, r"argument 1 of name: 3 has no size that a kernel knows; give a tensor, a NumPy scalar"),
        (0.5, r"0\.5 has no size"),
        (None, r"None has no size"),
        (np.zeros(1), r"has no size"),
    ],
)
def test_arguments_that_a_kernel_would_misread(machine, argument, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        cuda.Kernel("text", "name").launch(DEVICE, 1, 32, 0, [np.int32(1), argument])
    assert machine.launched == []


def test_several_threads_load_it_once(machine) -> None:
    kernel, start = cuda.Kernel("text", "name"), threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(50):
            kernel.launch(DEVICE, 1, 32, 0, [])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(machine.launched) == 400 and len(machine.loaded) == 1


def test_a_kernel_goes_to_another_process_without_what_is_loaded(machine) -> None:
    kernel = cuda.Kernel("text", "name", nvrtc.SYSTEM)
    kernel.launch(DEVICE, 1, 32, 0, [])
    again = pickle.loads(pickle.dumps(kernel))
    assert (again.text, again.name, again.options, again._loaded) == ("text", "name", nvrtc.SYSTEM, {})
    again.launch(DEVICE, 1, 32, 0, [])


def test_poison() -> None:
    cpu = torch.device("cpu")
    assert cuda.empty((2, 3), torch.float32, cpu).shape == (2, 3)
    cuda.POISON = True
    try:
        assert cuda.empty((2, 3), torch.float32, cpu).isnan().all()
        assert (cuda.empty((3,), torch.int64, cpu) == -1).all()
    finally:
        cuda.POISON = False


def test_what_is_missing_is_named_with_the_command(machine, monkeypatch) -> None:
    assert cuda.available(DEVICE) is None

    def now() -> str:
        cuda._missing.cache_clear()
        return str(cuda.available(DEVICE))

    monkeypatch.setattr(nvrtc, "available", lambda: "no NVRTC. Fix: pip install cuda-bindings")
    assert now() == "no NVRTC. Fix: pip install cuda-bindings"
    machine.cupy.cuda.runtime.runtimeGetVersion = lambda: 12090
    assert now() == (
        "CuPy is for CUDA 12 and torch for CUDA 13. Fix: pip uninstall cupy-cuda12x, then pip install cupy-cuda13x"
    )
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert now().endswith("Fix: pip install cupy-cuda13x")
    with pytest.raises(
        DeviceError, match=r"kernels cannot run on cuda:0: CuPy .*Fix: pip install cupy-cuda13x, or use"
    ):
        cuda.Kernel("text", "name").launch(DEVICE, 1, 32, 0, [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no driver. Fix: install NVIDIA's driver" in now()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in now()


def test_a_card_that_is_too_old(machine, monkeypatch) -> None:
    def too_old(arch: str) -> str:
        raise DeviceError("this card is too old")

    monkeypatch.setattr(nvrtc, "target", too_old)
    assert cuda.available(DEVICE) == "this card is too old"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device(forgetful) -> None:
    assert "Fix: install" in str(cuda.available(DEVICE))
    with pytest.raises(DeviceError, match=r"kernels cannot run on cuda:0: .* or use engine='torch'"):
        cuda.Kernel("text", "name").launch(DEVICE, 1, 32, 0, [])


def test_importing_and_simulating_on_a_cpu_leave_cuda_alone() -> None:
    program = (
        "import sys, torch, lensgen, lensgen_kernels.cuda, lensgen_kernels.nvrtc\n"
        "next(iter(lensgen.LensStream('model_a', 2, device='cpu', engine='torch')))\n"
        "print(torch.cuda.is_initialized(), [m for m in ('cupy', 'cuda.bindings.nvrtc', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "False []", done.stdout + done.stderr
