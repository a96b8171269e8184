"""NVRTC: kernels are compiled without a device, kept on disk whole and as they were, and errors say where to look."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from lensgen_kernels import nvrtc
from lensgen_kernels.errors import CompilationError, DeviceError

pytestmark = pytest.mark.skipif(nvrtc.available() is not None, reason=str(nvrtc.available()))

TEXT = """
extern "C" __global__ __launch_bounds__(256, 2) void turned(float* out, const float* in) {
    __shared__ float kept[256];
    kept[threadIdx.x] = in[blockIdx.x * 256 + threadIdx.x] / 3.0f;
    __syncthreads();
    out[blockIdx.x * 256 + threadIdx.x] = kept[255 - threadIdx.x];
}
extern "C" __global__ void nothing() {}
"""
WASTEFUL = """
extern "C" __global__ __launch_bounds__(1024, 2) void wasteful(float* out) {
    float a[64];
#pragma unroll
    for (int k = 0; k < 64; k++) a[k] = out[k * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 64; k++) out[k * 1024 + threadIdx.x] = a[k] * a[63 - k];
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LENSGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"])
def test_machine_code_for_every_card(folder, arch: str) -> None:
    made = nvrtc.compiled(TEXT, arch)
    assert made.arch == arch and made.cubin.startswith(b"\x7fELF")
    assert made.usage.keys() == {"turned", "nothing"}
    usage = made.usage["turned"]
    assert 0 < usage.registers <= 128 and usage.shared == 1024
    assert usage.stack == usage.spill_stores == usage.spill_loads == 0


def test_registers_that_did_not_fit_are_reported(folder) -> None:
    usage = nvrtc.compiled(WASTEFUL, "sm_90").usage["wasteful"]
    assert usage.registers <= 32 and min(usage.spill_stores, usage.spill_loads, usage.stack) > 0


def test_a_newer_card_gets_ptx_of_the_newest_below_it(folder, monkeypatch) -> None:
    assert nvrtc.target("sm_90") == "sm_90"
    assert nvrtc.target("sm_999").startswith("compute_1")
    made = nvrtc.compiled(TEXT, "sm_999")
    assert made.arch == nvrtc.target("sm_999") and b".entry turned" in made.cubin
    assert made.cubin.endswith(b"\0") and made.usage == {}
    assert nvrtc.compiled(TEXT, "sm_999") == made


@pytest.mark.parametrize(
    "arch, message",
    [("sm_30", r"this card is sm_30, and NVRTC .* Fix: .*engine='torch'"), ("90", r"arch = '90' is no architecture")],
)
def test_cards_that_are_none_or_too_old(arch: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        nvrtc.compiled(TEXT, arch)


def test_options_are_part_of_the_code(folder) -> None:
    fast, exact = nvrtc.compiled(TEXT, "sm_90"), nvrtc.compiled(TEXT, "sm_90", nvrtc.SYSTEM)
    assert fast.cubin != exact.cubin and len(list(folder.glob("cuda_*.cubin"))) == 2
    nvrtc.compiled(TEXT + "// another", "sm_90")
    assert len(list(folder.glob("cuda_*.cubin"))) == 3


def test_it_is_compiled_once(folder, capfd, monkeypatch) -> None:
    first = nvrtc.compiled(TEXT, "sm_90")
    assert f"compiling a CUDA kernel, once, into {folder}" in capfd.readouterr().err
    monkeypatch.setattr(nvrtc, "_compile", None)
    assert nvrtc.compiled(TEXT, "sm_90") == first
    assert capfd.readouterr().err == ""
    (cubin,) = folder.glob("cuda_*.cubin")
    assert cubin.with_suffix(".cu").read_text() == TEXT
    assert not list(folder.glob("*.tmp")) and stat.S_IMODE(cubin.stat().st_mode) & 0o022 == 0


def test_the_compiler_s_version_is_part_of_the_name(folder, monkeypatch) -> None:
    nvrtc.compiled(TEXT, "sm_90")
    monkeypatch.setattr(nvrtc, "version", lambda: (99, 0))
    nvrtc.compiled(TEXT, "sm_90")
    assert len(list(folder.glob("cuda_*.cubin"))) == 2


@pytest.mark.parametrize("change", ["empty", "no line", "half", "one bit", "one more", "other facts"])
def test_a_file_that_is_not_as_it_was_is_made_again(folder, change: str) -> None:
    made = nvrtc.compiled(TEXT, "sm_90")
    (path,) = folder.glob("cuda_*.cubin")
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "no line": b"rubbish",
            "half": whole[: len(whole) // 2],
            "one bit": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
            "one more": whole + b"\0",
            "other facts": whole.replace(b"sm_90", b"sm_80", 1),
        }[change]
    )
    assert nvrtc.compiled(TEXT, "sm_90") == made
    assert path.read_bytes() == whole


def test_a_full_disk_costs_only_the_next_process_its_time(folder, monkeypatch) -> None:
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    made = nvrtc.compiled(TEXT, "sm_90")
    (path,) = folder.glob("cuda_*.cubin")
    path.unlink()
    for broken in ("mkstemp", "fdopen"):
        monkeypatch.setattr(nvrtc.tempfile if broken == "mkstemp" else nvrtc.os, broken, full)
        assert nvrtc.compiled(TEXT, "sm_90") == made
        monkeypatch.undo()
        monkeypatch.setenv("LENSGEN_CACHE", str(folder))
        assert not path.exists() and not list(folder.glob("*.tmp"))


def test_a_folder_that_others_may_write_is_not_read(folder) -> None:
    nvrtc.compiled(TEXT, "sm_90")
    folder.chmod(0o777)
    with pytest.raises(OSError, match=r"no folder for compiled kernels"):
        nvrtc.compiled(TEXT, "sm_90")


@pytest.mark.slow
def test_two_processes_at_once(folder) -> None:
    program = f"from lensgen_kernels import nvrtc; print(len(nvrtc.compiled({TEXT!r}, 'sm_90').cubin))"
    started = [
        subprocess.Popen([sys.executable, "-c", program], env={**os.environ}, text=True, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    sizes = {process.communicate(timeout=120)[0] for process in started}
    assert all(process.returncode == 0 for process in started) and len(sizes) == 1
    assert len(list(folder.glob("cuda_*.cubin"))) == 1 and not list(folder.glob("*.tmp"))


def test_a_text_that_does_not_compile(folder) -> None:
    wrong = 'extern "C" __global__ void k(float* out) {\n    int unused = 3;\n    out[0] = nowhere;\n}\n'
    with pytest.raises(CompilationError) as caught:
        nvrtc.compiled(wrong, "sm_90")
    (source,) = folder.glob("cuda_*.cu")
    message = str(caught.value)
    assert f"its text is {source}" in message and "Fix: engine='torch'" in message
    assert 'error: identifier "nowhere" is undefined' in message and f"{source.name}(3)" in message
    assert source.read_text() == wrong and not list(folder.glob("*.cubin"))


def test_an_option_that_there_is_not(folder) -> None:
    with pytest.raises(CompilationError, match=r"unrecognized option -no-such-option"):
        nvrtc.compiled(TEXT, "sm_90", ("-no-such-option",))


def test_without_cuda_bindings(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    nvrtc.version.cache_clear()
    try:
        assert "pip install cuda-bindings" in str(nvrtc.available())
        with pytest.raises(DeviceError, match=r"cannot be compiled: cuda-bindings.*pip install cuda-bindings, or use"):
            nvrtc.version()
    finally:
        nvrtc.version.cache_clear()


def test_without_the_library(monkeypatch) -> None:
    from cuda.bindings import nvrtc as library

    def missing():
        raise RuntimeError("libnvrtc.so was not found")

    monkeypatch.setattr(library, "nvrtcVersion", missing)
    assert nvrtc.available() == (
        "the library NVRTC cannot be loaded (libnvrtc.so was not found). Fix: pip install nvidia-cuda-nvrtc"
    )
