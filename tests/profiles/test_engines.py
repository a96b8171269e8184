"""Who renders what beside whom, on a card and off it."""

from __future__ import annotations

import dataclasses
import io
import json
import time

import numpy as np
import pytest
import torch

from lensgen.render import ENGINES, Engine
from profiles import contenders, engines, measure, parity, report
from profiles.cases import CASES, Task, draw_systems
from profiles.contenders import build, device_of, engines_on, entries
from profiles.engines import Engines, Teams, contenders_of, tasks_of
from profiles.team import Member

GPU = Task(CASES["sie"], batch=2048, noise=True, device="cuda")


@pytest.fixture
def config(monkeypatch) -> Engines:
    """As on a machine with a GPU and all peers, with an engine that has been registered."""
    fused = Engine("lensgen.cuda_engine", "kernels", ("cuda",), (torch.float32,))
    monkeypatch.setattr(engines, "resolve_device", torch.device)
    monkeypatch.setitem(ENGINES, "cuda", fused)
    monkeypatch.setitem(ENGINES, "cuda_closed", dataclasses.replace(fused, options={"tabulated": False}))
    monkeypatch.setattr(contenders.Entry, "missing", [])
    return Engines()


def test_all_that_is_asked_for_is_rendered_the_most_telling_first(config):
    tasks = tasks_of(config)
    assert [(t.case.name, t.batch) for t in tasks[:2]] == [("sie", 2048), ("sie", 256)]
    found = {(t.case.name, t.batch) for t in tasks if t.noise}
    cases = {"sie", "25 points", "25 tnfw", "100 tnfw", "500 tnfw", "rod"}
    assert found == {(case, batch) for case in cases for batch in (2048, 256)}
    assert {t.case.name for t in tasks if not t.noise} == {"sie", "25 points", "25 tnfw", "100 tnfw"}
    assert all(t.size == 64 and t.supersampling == 1 and t.device == "cuda" for t in tasks)


def test_engines_meet_who_can_do_the_same(config):
    ours = {"lensgen cuda", "lensgen cuda, graph", "lensgen cuda_closed", "lensgen cuda_closed, graph", "lensgen torch"}
    assert set(engines_on("cuda")) == ours and set(engines_on("cpu")) == {
        "lensgen cpu", "lensgen cpu_closed", "lensgen torch",
    }  # fmt: skip
    assert set(contenders_of(config, GPU)) == ours | {"lensgen cpu", "lenstronomy"}
    small = dataclasses.replace(GPU, batch=256)
    assert set(contenders_of(config, small)) == ours
    noise_free = dataclasses.replace(GPU, noise=False)
    assert set(contenders_of(config, noise_free)) == ours | {"caustics", "caustics, compiled", "lensgen, compiled"}
    asked = dataclasses.replace(config, contenders=("lensgen torch", "lenstronomy"))
    assert contenders_of(asked, GPU) == ["lensgen torch", "lenstronomy"]
    assert "LensStream, cuda" in entries() and "LensStream, torch" in entries() and "LensStream, cpu" not in entries()


def test_who_has_no_gpu_renders_the_first_of_the_same_systems_on_the_cpu(config):
    assert device_of("lenstronomy", "cuda") == device_of("lensgen cpu", "cuda") == "cpu"
    assert device_of("lensgen torch", "cuda") == device_of("caustics", "cuda") == "cuda"
    assert device_of("lensgen cuda", "cpu") == "cpu", "where it is refused, not taken elsewhere"
    images = build("lenstronomy", dataclasses.replace(GPU, batch=100))
    assert len(images.systems) == 64 and images.notes.endswith("on the CPU")
    everyone, few = (draw_systems(dataclasses.replace(GPU, batch=100, first=n)) for n in (0, 3))
    for one, other in zip(few.lenses, everyone.lenses, strict=True):
        assert all(np.array_equal(v, other.parameters[k][:3]) for k, v in one.parameters.items())
    assert len(few.source["amp"]) == 3 and parity.reference(dataclasses.replace(GPU, size=16), 2).shape == (2, 16, 16)


def test_without_lenstronomy_images_are_compared_with_torch_in_float64(monkeypatch):
    task = Task(CASES["25 points"], size=24, batch=3)
    theirs = parity.reference(task, 2)
    assert parity.judge() == "lenstronomy"
    monkeypatch.setattr(parity, "judge", lambda: "lensgen torch in float64")
    assert parity.deviation(parity.reference(task, 2), theirs, task) < 1e-6


def test_a_member_prepares_while_others_do():
    task, member = Task(CASES["sie"], size=16, batch=2), Member("lensgen torch", "one", "cpu")
    try:
        member.begin(task)
        member.begin(task)  # is under way
        answer = member.ready(60.0)
        assert answer["device"] == "cpu" and answer["images"].shape == (2, 16, 16)
        assert member.choose() == ""  # it has no variants
        items, seconds = member.measure(0.01)
        assert items >= 2 and seconds >= 0.01
        member.begin(dataclasses.replace(task, size=256, batch=4096, supersampling=4))
        assert member.ready(0.2) == {"refused": "took too long to set up"}
        (outcome,) = measure.compare([member], task, 1, 0.01, print, together=60.0)
        assert outcome.runs and not outcome.refused, "it starts anew"
    finally:
        member.close()


def test_everyone_sets_up_early_and_those_that_compile_in_a_process_a_task(config, monkeypatch):
    begun = []

    class Nobody:
        def __init__(self, name, cores, device):
            self.name, self.cores = name, cores

        def begin(self, task):
            begun.append((self.name, task.case.name))

    monkeypatch.setattr(engines, "Member", Nobody)
    teams = Teams(config)
    tasks = tasks_of(config)
    teams.begin(tasks)
    assert {case for name, case in begun if name == "caustics, compiled"} == {"sie", "25 points", "25 tnfw", "100 tnfw"}
    assert len([case for name, case in begun if name == "lensgen cpu"]) == 6
    others = {name: case for name, case in begun if name not in ("lensgen cpu", *engines.COMPILING)}
    assert others == dict.fromkeys((*engines_on("cuda"), "lenstronomy", "caustics"), "sie")
    assert len(begun) == 4 + 4 + 6 + len(others)
    one, other = ({m.name: m for m in teams.members(task)} for task in (tasks[0], tasks[2]))
    assert one["lensgen cuda"] is other["lensgen cuda"] and one["lensgen cpu"] is not other["lensgen cpu"]
    assert one["lenstronomy"].cores == "one" and one["lensgen cpu"].cores == "all"


def test_the_script_waits_for_its_seconds(tmp_path, monkeypatch):
    out = tmp_path / "engines"
    monkeypatch.setattr("sys.stdin", io.StringIO("60.0\n"))
    flags = ["--device", "cpu", "--cases", "sie", "--against", "sie", "--batches", "3", "--size", "16"]
    names = ["--contenders", "lensgen torch", "caustics"]
    engines.main([*flags, "--repeats", "2", "--seconds", "0.01", *names, "--wait", "--out", str(out)])
    content = json.loads(out.with_suffix(".json").read_text())
    assert [(r["case"], r["noise"]) for r in content["records"]] == [("sie", True), ("sie", False)]
    assert content["records"][0]["times_as_fast_as"]["lensgen torch"]["lensgen torch"]["median"] == 1.0
    assert content["settings"]["left_out"] == []
    text = out.with_suffix(".md").read_text()
    assert "| sie | 3 |" in text
    if contenders.PEERS["caustics"].missing:
        assert "Not installed: caustics" in text


def test_what_there_is_no_time_for_is_left_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = report.Progress(4, budget=10.0)
    taken = []
    for name, seconds in (("a", 6.0), ("b", 2.0), ("c", 3.0), ("d", 1.0)):
        if not progress.leaves_out(name):
            taken.append(name)
            now[0] += seconds
    assert taken == ["a", "b", "c"] and progress.left_out == ["d"]
    assert not report.Progress(1).leaves_out("without a budget everything is done")
