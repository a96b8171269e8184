"""Steps with limits: what hangs or fails is noted and ended with all that it started, and the others go on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from profiles import steps
from profiles.steps import DONE, FAILED, INTERRUPTED, OUTLASTED, SKIPPED, WAITING, Step, first_limit, run_steps


def step(name: str, code: str, share: float = 1.0, **options) -> Step:
    return Step(name, name, share, lambda seconds: ["-c", code, f"{seconds:.0f}"], lambda folder: {}, **options)


def run(these, folder, budget=60.0):
    said, saved = [], []

    def save(outcomes):
        saved.append([o.status for o in outcomes])
        found[:] = outcomes

    found = []
    return run_steps(these, budget, folder, said.append, save), found, said, saved


def test_a_step_that_fails_is_noted_with_its_last_lines(tmp_path):
    ended, (bad, good), said, saved = run([step("bad", "print('so far'); 1 / 0"), step("good", "pass")], tmp_path)
    assert ended and (bad.status, good.status) == (FAILED, DONE)
    assert bad.why == "exit status 1" and "so far" in bad.tail and "ZeroDivisionError" in bad.tail and not good.tail
    assert saved == [[WAITING, WAITING], [FAILED, WAITING], [FAILED, DONE]], "written after each step"
    assert said[0].startswith("[1/2, 0 s, about") and "exit status 1" in said[1]


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "GRACE", 0.5)
    child = "import os, time; open('{}', 'w').write(str(os.getpid())); time.sleep(60)".format(tmp_path / "pid")
    deaf = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {child!r}])
time.sleep(60)"""
    begin = time.monotonic()
    _, (hangs, after), _, _ = run([step("hangs", deaf, share=2.0), step("after", "pass", 3.0)], tmp_path, budget=5.0)
    assert time.monotonic() - begin < 8.0
    assert (hangs.status, after.status) == (OUTLASTED, DONE) and hangs.why == "stopped after 2 s"
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or ") Z " in state.read_text()


def test_what_a_step_does_not_use_is_there_for_the_others(tmp_path):
    assert first_limit([1.0, 1.0, 2.0], 8.0) == 2.0 and first_limit([1.0], -3.0) == 0.0
    _, (one, two), _, _ = run([step("one", "pass"), step("two", "import sys; print(sys.argv[1]); 1 / 0")], tmp_path, 40)
    assert one.limit == pytest.approx(20, abs=0.5) and two.limit > 37
    assert int(two.tail.splitlines()[0]) == round(two.limit), "the command is told how long it has"
    _, (late,), _, _ = run([step("late", "pass")], tmp_path, budget=0.5)
    assert late.status == WAITING and late.why == "no time was left"


def test_what_is_not_installed_is_said_and_takes_no_time(tmp_path):
    these = [step("absent", "1 / 0", missing="caustics"), step("there", "pass")]
    _, (absent, there), _, _ = run(these, tmp_path, budget=30)
    assert (absent.status, absent.why) == (SKIPPED, "caustics") and there.limit > 29


def test_an_early_step_sets_up_meanwhile_and_waits_for_its_seconds(tmp_path):
    waits = f"""
import sys, time
open({str(tmp_path / "up")!r}, "w").close()
print("has", sys.stdin.readline())
1 / 0"""
    needs = f"""
import pathlib, time
while not pathlib.Path({str(tmp_path / "up")!r}).exists(): time.sleep(0.05)"""
    _, (first, early), _, _ = run([step("first", needs), step("early", waits, early=True)], tmp_path, budget=30)
    assert first.status == DONE and f"has {early.limit:.1f}" in early.tail


def test_ctrl_c_keeps_what_is_done(tmp_path):
    stops = f"import os, signal, time; os.kill({os.getpid()}, signal.SIGINT); time.sleep(30)"
    early = step("early", "import sys; sys.stdin.readline()", early=True)
    begin = time.monotonic()
    ended, found, _, saved = run([step("one", "pass"), step("two", stops), early], tmp_path)
    assert not ended and time.monotonic() - begin < 15
    assert [o.status for o in found] == saved[-1] == [DONE, INTERRUPTED, WAITING]


def test_sigterm_is_ctrl_c(tmp_path):
    stops = f"import os, signal, time; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(30)"
    ended, (one,), _, _ = run([step("one", stops)], tmp_path)
    assert not ended and one.status == INTERRUPTED


def test_results_that_cannot_be_read_do_not_end_the_report(tmp_path):
    def read(folder):
        raise ValueError("half a file")

    bad = Step("bad", "bad", 1.0, lambda seconds: ["-c", "pass"], read)
    _, (bad, good), _, _ = run([bad, step("good", "pass")], tmp_path)
    assert bad.status == FAILED and "half a file" in bad.why and good.status == DONE


def test_a_whole_command_and_a_program_that_is_not_there(tmp_path):
    echo = Step("echo", "echo", 1.0, lambda seconds: [sys.executable, "-c", "pass"], lambda folder: {}, python=False)
    ghost = Step("ghost", "ghost", 1.0, lambda seconds: ["no-such-program"], lambda folder: {}, python=False)
    _, (one, two, three), _, _ = run([echo, ghost, step("after", "pass")], tmp_path)
    assert (one.status, two.status, three.status) == (DONE, FAILED, DONE) and "no-such-program" in two.why
