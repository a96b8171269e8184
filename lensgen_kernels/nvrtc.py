"""CUDA C text -> machine code, by NVRTC: that needs neither a driver nor a device. Kept on disk.

Every kernel has two files in the cache folder, named by the hash of all that its code depends on: `.cu`, its text, to
be read by whoever wants to know; and `.cubin`, a line with the digest of what follows, a line of facts, the code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lensgen_kernels.cache_folder import cache_folder
from lensgen_kernels.errors import CompilationError, DeviceError

# Pixels may differ in the last places; what is drawn is equal bit for bit everywhere, and a fused multiply-add is not.
IMAGE = ("-prec-div=false", "-prec-sqrt=false", "-ftz=true", "-fmad=true")
SYSTEM = ("-fmad=false",)
_ALWAYS = ("--std=c++17", "-Xptxas=-v")
_FORMAT = "1"  # of the file; other files are made again
_FIRST_LINES = 12  # of the compiler's log, in an error


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers a thread; bytes of stack and of registers that did not fit, a thread; bytes of
    static shared memory, a block."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


@dataclass(frozen=True)
class Compiled:
    """Args:
    cubin: machine code, or PTX ending in a zero byte where `arch` begins with "compute_".
    arch: what it was compiled for.
    usage: of each kernel by its name; empty for PTX, which the driver compiles.
    """

    cubin: bytes
    arch: str
    usage: dict[str, Usage] = field(default_factory=dict)


def available() -> str | None:
    """Why there is no NVRTC, or None if there is."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        return f"cuda-bindings cannot be imported ({error}). Fix: pip install cuda-bindings"
    try:
        nvrtc.nvrtcVersion()
    except Exception as error:  # each release of cuda-bindings has its own for a library that is not found
        return f"the library NVRTC cannot be loaded ({error}). Fix: pip install nvidia-cuda-nvrtc"
    return None


def _checked(results: tuple) -> Any:
    status, *values = results
    if int(status) != 0:
        raise DeviceError(f"NVRTC failed with {status.name}. Fix: engine='torch'.")
    return values[0] if len(values) == 1 else tuple(values)


@lru_cache(maxsize=1)
def version() -> tuple[int, int]:
    """Of NVRTC."""
    if (reason := available()) is not None:
        raise DeviceError(f"CUDA kernels cannot be compiled: {reason}, or use engine='torch'.")
    from cuda.bindings import nvrtc

    return _checked(nvrtc.nvrtcVersion())


@lru_cache(maxsize=64)
def target(arch: str) -> str:
    """What to compile for, for a card of `arch` ("sm_90"): itself, or "compute_" of the newest that NVRTC knows below
    it, which the card's driver compiles on."""
    if re.fullmatch(r"sm_\d+", arch) is None:
        raise DeviceError(f"arch = {arch!r} is no architecture: give one like 'sm_90'.")
    wanted = int(arch[3:])
    version()  # says what is missing
    from cuda.bindings import nvrtc

    known = sorted(_checked(nvrtc.nvrtcGetSupportedArchs()))
    if wanted in known:
        return arch
    if wanted < known[0]:
        raise DeviceError(
            f"this card is {arch}, and NVRTC {_dotted()} compiles for sm_{known[0]} and newer. Fix: torch and CuPy "
            "for an older CUDA, or engine='torch'."
        )
    return f"compute_{max(k for k in known if k < wanted)}"


def _dotted() -> str:
    return ".".join(map(str, version()))


def compiled(text: str, arch: str, options: tuple[str, ...] = IMAGE) -> Compiled:
    """The code of the kernels in `text`, from disk or made now.

    Args:
        text: CUDA C++; complete, as NVRTC has no headers.
        arch: of the card, e.g. "sm_90"; see `target`.
        options: for NVRTC, beside those that are always given.

    Raises:
        CompilationError: the text does not compile.
        DeviceError: there is no NVRTC, or the card is too old for it.
    """
    real = target(arch)
    folder = cache_folder()
    key = "\0".join([_FORMAT, _dotted(), real, *_ALWAYS, *options, "", text])
    path = folder / f"cuda_{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
    if (kept := _read(path)) is not None:
        return kept
    source = path.with_suffix(".cu")
    _write(source, text.encode())
    print(f"lensgen: compiling a CUDA kernel, once, into {folder}", file=sys.stderr, flush=True)
    made = _compile(text, real, options, source)
    _write(path, _packed(made))
    return made


def _packed(made: Compiled) -> bytes:
    facts = {"arch": made.arch, "usage": {name: asdict(usage) for name, usage in made.usage.items()}}
    body = json.dumps(facts).encode() + b"\n" + made.cubin
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _read(path: Path) -> Compiled | None:
    """What the file holds; None if there is none, or it is not as it was written."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest().encode() != digest:  # cut short by a full disk, or meddled with
        return None
    facts, _, cubin = body.partition(b"\n")
    about = json.loads(facts)
    return Compiled(cubin, about["arch"], {name: Usage(**usage) for name, usage in about["usage"].items()})


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes it at the same time. Not at all on a full disk: the code is in memory,
    and the next process makes it again."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError:
        return
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def _compile(text: str, arch: str, options: tuple[str, ...], source: Path) -> Compiled:
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), source.name.encode(), 0, [], []))
    try:
        given = [option.encode() for option in (f"--gpu-architecture={arch}", *_ALWAYS, *options)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(given), given)
        log = _text_of(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0\n ").decode()
        if int(status) != 0:
            first = "\n".join(f"    {line}" for line in _errors_first(log)[:_FIRST_LINES])
            raise CompilationError(
                f"a CUDA kernel does not compile for {arch} with NVRTC {_dotted()} ({status.name}); its text is "
                f"{source}. Fix: engine='torch' renders without it; please report this:\n{first}"
            )
        if arch.startswith("compute_"):
            return Compiled(_text_of(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX), arch)
        return Compiled(_text_of(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), arch, _usage(log))
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _text_of(program: Any, size_of: Any, read: Any) -> bytes:
    memory = bytearray(_checked(size_of(program)))
    _checked(read(program, memory))
    return bytes(memory)


def _errors_first(log: str) -> list[str]:
    """The log's lines from its first error on: warnings may stand before."""
    lines = log.splitlines()
    return lines[next((i for i, line in enumerate(lines) if "error" in line), 0) :]


def _usage(log: str) -> dict[str, Usage]:
    """What ptxas says of each kernel; functions that are called and not inlined count to the kernel above them."""
    found = {}
    _, *parts = re.split(r"Compiling entry function '(\w+)' for", log)
    for name, said in zip(parts[::2], parts[1::2], strict=True):

        def total(what: str, said: str = said) -> int:
            return sum(map(int, re.findall(rf"(\d+) {what}", said)))

        found[name] = Usage(
            registers=total("registers"),
            stack=total("bytes stack frame"),
            spill_stores=total("bytes spill stores"),
            spill_loads=total("bytes spill loads"),
            shared=total("bytes smem"),
        )
    return found
