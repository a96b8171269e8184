"""The steps of the report of a GPU: their time, what they need, and the commands that they run."""

from __future__ import annotations

from profiles import card, gpu_steps, steps
from profiles.gpu_steps import SECONDS, steps_of


def test_steps_have_their_time_and_say_what_they_need(tmp_path, monkeypatch):
    full, quick = steps_of(tmp_path, False), steps_of(tmp_path, True)
    assert [s.name for s in full] == [s.name for s in quick] == list(SECONDS)
    assert sum(s.share for s in full) < 8.2 * 60 and sum(s.share for s in quick) < 150
    assert all(str(tmp_path) in " ".join(map(str, s.command(30.0))) for s in full if s.python)
    for name in ("overlap", "draws", "memcheck", "racecheck", "memcheck_graph"):  # torch must not do the kernels' work
        command = " ".join(map(str, next(s for s in full if s.name == name).command(30.0)))
        assert "--engine cuda" in command, name
        assert ("CACHING=1" in command) == (name in ("memcheck", "racecheck")), name
    assert any("mark.gpu" in (steps.ROOT / file).read_text() for file in gpu_steps.gpu_tests())
    monkeypatch.setattr(gpu_steps.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu_steps, "sanitizer", lambda: None)
    missing = {s.name: s.missing for s in steps_of(tmp_path, False) if s.missing}
    assert set(missing) == {"tests", "overlap", "mae", "memcheck", "racecheck", "memcheck_graph"}
    assert missing["tests"] == "pytest, hypothesis" and missing["memcheck"] == "compute-sanitizer"


def test_the_sanitizer_is_found_in_the_toolkit(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps.shutil, "which", lambda name: None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.touch()
    assert gpu_steps.sanitizer() == str(tool)
    command = next(s for s in steps_of(tmp_path, False) if s.name == "racecheck").command(30.0)
    assert command[0] == "env" and str(tool) in command and "racecheck" in command


def test_cards_have_names_for_files():
    assert card.slug("NVIDIA H100 80GB HBM3") == "h100_80gb_hbm3" and card.slug("") == "unknown"
