"""Kernels on a CUDA device: compiled, launched on torch's streams, recorded as graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TEXT = """
extern "C" __global__ void scaled(float* out, const float* in, float by, long long size) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) out[i] = in[i] * by;
}
struct given { float* out; long long size; float weights[3]; int first; };
extern "C" __global__ void recorded(const given in) {
    if (threadIdx.x < in.size) in.out[threadIdx.x] = in.weights[threadIdx.x % 3] + in.first;
}
extern "C" __global__ void turned(float* out, const float* in, int size) {
    extern __shared__ float kept[];
    for (int i = threadIdx.x; i < size; i += blockDim.x) kept[i] = in[i];
    __syncthreads();
    for (int i = threadIdx.x; i < size; i += blockDim.x) out[i] = kept[size - 1 - i];
}
extern "C" __global__ void counted(long long* out, const long long* start) {
    out[threadIdx.x] = *start + threadIdx.x;
}
"""
LONG = 20_000_000


@pytest.fixture
def cuda():
    from lensgen_kernels import cuda

    if (reason := cuda.available(torch.device("cuda"))) is not None:
        pytest.skip(f"kernels cannot run here: {reason}")
    return cuda


def test_a_kernel_on_torch_s_tensors(cuda) -> None:
    device = torch.device("cuda")
    x = torch.arange(1000.0, device=device)
    out = torch.full_like(x, torch.nan)
    cuda.Kernel(TEXT, "scaled").launch(device, 8, 128, 0, [out, x, np.float32(0.5), np.int64(1000)])
    assert torch.equal(out, 0.5 * x)


def test_a_record_as_an_argument(cuda) -> None:
    device = torch.device("cuda")
    fields = [("out", np.uint64), ("size", np.int64), ("weights", np.float32, (3,)), ("first", np.int32)]
    record, out = np.zeros((), np.dtype(fields, align=True)), torch.full((6,), torch.nan, device=device)
    record["out"], record["size"], record["weights"], record["first"] = out.data_ptr(), 6, (1.0, 2.0, 4.0), 10
    cuda.Kernel(TEXT, "recorded").launch(device, 1, 32, 0, (record,))
    record["first"] = 99  # the launch has taken its copy
    assert out.tolist() == [11.0, 12.0, 14.0] * 2


@pytest.mark.parametrize("size", [1000, 12 * 1024, 24 * 1024])
def test_more_shared_memory_than_blocks_have_by_themselves(cuda, size: int) -> None:
    device, kernel = torch.device("cuda"), cuda.Kernel(TEXT, "turned")
    x = torch.arange(float(size), device=device)
    out = torch.full_like(x, torch.nan)
    kernel.launch(device, 1, 256, 4 * size, [out, x, np.int32(size)])
    assert torch.equal(out, x.flip(0))
    assert kernel.occupancy(device, 256, 4 * size) >= 1


def test_facts(cuda) -> None:
    facts = cuda.facts(torch.device("cuda"))
    assert facts.arch.startswith("sm_") and facts.multiprocessors > 0 and facts.shared >= 48 * 1024


@pytest.mark.parametrize("late", [False, True])
def test_on_torch_s_current_stream(cuda, late: bool) -> None:
    device, kernel, stream = torch.device("cuda"), cuda.Kernel(TEXT, "scaled"), torch.cuda.Stream()
    x = torch.zeros(1 << 20, device=device)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(LONG)
        x.fill_(3.0)
        out = torch.empty_like(x)
        kernel.launch(device, 1 << 13, 128, 0, [out, x, np.float32(2.0), np.int64(1 << 20)])
    torch.cuda.current_stream().wait_stream(stream)
    assert bool((out == 6.0).all())


def test_in_a_thread_that_is_new_to_the_device(cuda) -> None:
    from concurrent.futures import ThreadPoolExecutor

    device, kernel = torch.device("cuda"), cuda.Kernel(TEXT, "turned")
    x = torch.arange(20_000.0, device=device)
    out = torch.empty_like(x)
    torch.cuda.synchronize()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(kernel.launch, device, 1, 256, 80_000, [out, x, np.int32(20_000)]).result()
    torch.cuda.synchronize()
    assert torch.equal(out, x.flip(0))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_each_of_two_devices(cuda) -> None:
    kernel = cuda.Kernel(TEXT, "scaled")
    for number in (1, 0, 1):
        device = torch.device("cuda", number)
        x = torch.arange(1000.0, device=device)
        out = torch.full_like(x, torch.nan)
        kernel.launch(device, 8, 128, 0, [out, x, np.float32(0.5), np.int64(1000)])
        assert torch.equal(out, 0.5 * x) and torch.cuda.current_device() == 0


def test_recorded_work_gives_copies(cuda) -> None:
    from lensgen_kernels.replay import Replayed

    device, kernel = torch.device("cuda"), cuda.Kernel(TEXT, "counted")

    def work(start):
        out = torch.empty(64, dtype=torch.int64, device=device)
        kernel.launch(device, 1, 64, 0, [out, start])
        return out, out.float() * 0.5

    replayed = Replayed(work, device)
    first = replayed(10)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        second = replayed(1000)
    third = replayed(7)
    torch.cuda.synchronize()
    for start, made in ((10, first), (1000, second), (7, third)):
        expected = torch.arange(start, start + 64, device=device)
        assert torch.equal(made[0], expected) and torch.equal(made[1], expected.float() * 0.5)


def test_a_launch_costs_the_host_little(cuda) -> None:
    """Printed with `pytest -s`; what it costs is for the report, not for a test to fail by."""
    import time

    device, kernel = torch.device("cuda"), cuda.Kernel(TEXT, "scaled")
    x = torch.zeros(32, device=device)
    args = [x, x, np.float32(1.0), np.int64(32)]
    kernel.launch(device, 1, 32, 0, args)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(500):
        kernel.launch(device, 1, 32, 0, args)
    seconds = (time.perf_counter() - begin) / 500
    torch.cuda.synchronize()
    print(f"{1e6 * seconds:.1f} microseconds a launch")
    assert seconds < 1e-3
