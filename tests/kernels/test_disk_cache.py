"""Kernels on disk: where they lie, that they are whole, ours, and not made twice."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lensgen_kernels import disk_cache

PROGRAM = """
    import torch
    from lensgen import render
    from tests.kernels.scenes import hand_made, seen
    print(float(render(hand_made(2), seen(8, 8), engine="cpu").sum()))
"""
ROOT = Path(__file__).parents[2]
TEXT = "import numpy as np\nfrom numba import njit\n\n\n@njit(cache=True)\ndef answer():\n    return {}\n"


def started(folder: Path, program: str = PROGRAM) -> subprocess.Popen:
    environment = {**os.environ, "LENSGEN_CACHE": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and a memory of modules that forgets them afterwards."""
    monkeypatch.setenv("LENSGEN_CACHE", str(tmp_path / "cache"))
    disk_cache.module.cache_clear()
    yield tmp_path / "cache"
    disk_cache.module.cache_clear()


@pytest.mark.slow
def test_two_processes_at_once_and_one_after_them(tmp_path) -> None:
    """Both make the kernel, neither sees half of one, and the third finds it."""
    folder = tmp_path / "a" / "cache"
    first, second = started(folder), started(folder)
    (one, said), (two, _) = finished(first), finished(second)
    assert one == two and "compiling a kernel, once, into" in said and str(folder) in said
    assert len(list(folder.glob("image_*.py"))) == 1 and not list(folder.glob("**/*.tmp"))
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*.py")}
    three, said = finished(started(folder))
    assert three == one and "compiling" not in said
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.py")} == before
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0  # nobody else can write code that we run


def test_another_text_is_another_file(folder, capfd) -> None:
    assert disk_cache.module("test", TEXT.format(41)).answer() == 41
    assert disk_cache.module("test", TEXT.format(42)).answer() == 42
    assert disk_cache.module("test", TEXT.format(41)).answer() == 41
    assert len(list(folder.glob("test_*.py"))) == 2
    assert capfd.readouterr().err.count("compiling a kernel") == 2


def test_what_the_code_depends_on_is_in_the_name(folder, monkeypatch) -> None:
    disk_cache.module("test", TEXT.format(1))
    disk_cache.module.cache_clear()
    monkeypatch.setattr(disk_cache, "_surroundings", lambda: "another compiler")
    disk_cache.module("test", TEXT.format(1))
    assert len(list(folder.glob("test_*.py"))) == 2


def again(kind: str, text: str):
    """As a new process would."""
    disk_cache.module.cache_clear()
    return disk_cache.module(kind, text)


@pytest.mark.parametrize("content", [b"", b"import num", TEXT.format(13).encode(), b"\xff\xfe\x00"])
def test_a_file_with_other_content_is_written_again(folder, content) -> None:
    """Cut short by a full disk, or changed by hand: its name is a hash of what it should hold."""
    disk_cache.module("test", TEXT.format(7)).answer()
    (path,) = folder.glob("test_*.py")
    for compiled in (folder / "__pycache__").iterdir():
        compiled.unlink()
    path.write_bytes(content)
    assert again("test", TEXT.format(7)).answer() == 7
    assert path.read_text() == TEXT.format(7)


@pytest.mark.parametrize("ending", ["nbc", pytest.param("nbi", marks=pytest.mark.slow)])
@pytest.mark.parametrize("keep", [0, pytest.param(10, marks=pytest.mark.slow)])
def test_machine_code_cut_short_is_made_again(folder, ending: str, keep: int) -> None:
    """In a process of its own: numba may do anything with it, and must not crash."""
    first, _ = finished(started(folder))
    for path in (folder / "__pycache__").glob(f"*.{ending}"):
        path.write_bytes(path.read_bytes()[:keep])
    second, _ = finished(started(folder))
    assert second == first


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    """Root may write everywhere: a file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LENSGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        OSError, match=r"no folder for compiled kernels: .*Fix: set LENSGEN_CACHE .*or use engine='torch'"
    ):
        disk_cache.cache_folder()


def test_a_folder_of_someone_else_is_not_read(folder, monkeypatch) -> None:
    folder.mkdir()
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(OSError, match=r"cannot be written, or others can write there"):
        disk_cache.cache_folder()


def test_a_folder_that_others_may_write_is_not_read(folder) -> None:
    """Code that is run is read from there."""
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match=r"no folder for compiled kernels"):
        disk_cache.cache_folder()


def test_without_a_home_the_temporary_folder_is_taken(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("LENSGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(disk_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    assert disk_cache.cache_folder() == tmp_path / f"lensgen-{os.getuid()}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert disk_cache.cache_folder() == tmp_path / "home" / "lensgen"
