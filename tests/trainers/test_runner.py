"""Runs of a reproduction in processes of their own: whatever is killed or interrupted, nothing is lost or doubled.

The signals are real, and so are the processes; the trainer only waits (`patient_runs.py`).
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainers.checkpoint import checkpoints
from trainers.errors import TrainingError
from trainers.reproduction.cell import Cell
from trainers.reproduction.runner import Runner
from trainers.timing import Interrupt

HERE = Path(__file__).parent


def obedient(argv: list[str]) -> int:
    """A trainer that does nothing but leave its result behind; it says in which order it was asked."""
    folder = Path(argv[argv.index("--out") + 1])
    (folder / "summary.json").write_text("{}")
    with (folder.parent / "order.txt").open("a") as file:
        file.write(folder.name + "\n")
    print("done")
    return 0


def broken(argv):
    raise ValueError("no luck")


def test_a_failed_run_does_not_take_others_with_it_and_is_tried_again(tmp_path):
    cells = [Cell("a", "mae", "k", 8), Cell("b", "mae", "k", 8, after="a"), Cell("c", "classify", "k", 8)]
    cells.append(Cell("d", "classify", "k", 8, after="c"))
    seconds = dict.fromkeys("abcd", 1.0)
    with pytest.raises(TrainingError, match=r"2 of 4 runs failed.*\n  c: ValueError: no luck.*\n  d: it begins with c"):
        Runner(tmp_path, {"mae": obedient, "classify": broken}, 1).run(cells, 1.0, seconds, "runs")
    assert (tmp_path / "order.txt").read_text().split() == ["a", "b"]
    assert "no luck" in (tmp_path / "c" / "output.txt").read_text()
    assert (tmp_path / "a" / "output.txt").read_text() == "done\n"
    cells = [dataclasses.replace(cell, trainer="mae") for cell in cells]
    Runner(tmp_path, {"mae": obedient}, 1).run(cells, 1.0, seconds, "runs")
    assert (tmp_path / "order.txt").read_text().split() == ["a", "b", "c", "d"]  # what was done is not done again


def test_what_would_be_late_and_need_not_be_done_is_left_out(tmp_path):
    cells = [Cell(name, "mae", "k", 8, after=after) for name, after in (("a", None), ("b", None), ("c", "b"))]
    runner = Runner(tmp_path, {"mae": obedient}, 1)
    runner.run(cells, 1.0, dict.fromkeys("abc", 50.0), "runs", must=lambda cell: cell.name == "a", left=10.0)
    assert (tmp_path / "order.txt").read_text().split() == ["a"]


def optional_cells():
    return [Cell("a", "mae", "k", 8), Cell("b", "classify", "k", 8), Cell("c", "classify", "k", 8, after="b")]


def test_runs_that_need_not_be_done_may_fail(tmp_path):
    runner = Runner(tmp_path, {"mae": obedient, "classify": broken}, 1)
    took = runner.run(optional_cells(), 1.0, dict.fromkeys("abc", 1.0), "runs", must=lambda cell: cell.name == "a")
    assert set(took) == {"a"} and set(runner.failed) == {"b", "c"}
    assert runner.failed["b"].startswith("ValueError: no luck") and runner.failed["c"] == "it begins with b"


def test_only_a_second_ctrl_c_interrupts_at_once():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def begun(tmp_path, environment):
    """Begins `patient_runs.py` in a process group of its own: `begun(seconds, "a", ...)` -> the process."""
    started = []

    def begin(seconds, *names, processes=2):
        command = [sys.executable, HERE / "patient_runs.py", tmp_path, str(processes), str(seconds), *names]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def sessions(path):
    """(process, first step) of each time that a run was begun or gone on with."""
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def steps(folder):
    return int((folder / "steps.txt").read_text() or 0) if (folder / "steps.txt").exists() else 0


def is_alive(pid):
    """Zombies are not: where nobody adopts orphans they stay."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["ctrl_c", "terminate"])
def test_a_stop_saves_every_run_and_loses_no_step(begun, tmp_path, how):
    process = begun(1000, "a", "b", "c")
    until(lambda: steps(tmp_path / "a") > 3 and steps(tmp_path / "b") > 3)
    if how == "ctrl_c":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    for name in "ab":
        [(pid, first)] = sessions(tmp_path / name / "sessions.txt")
        assert first == 0 and not is_alive(pid)
        assert checkpoints(tmp_path / name)[-1].name == f"step_{steps(tmp_path / name):06d}"
    assert not (tmp_path / "c" / "sessions.txt").exists()


def test_a_stop_while_processes_begin(begun, tmp_path):
    process = begun(1000, "a", "b")
    # their command line is there long before their imports are done
    until(lambda: len(children(process.pid)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert not list(tmp_path.glob("*/steps.txt"))


def children(pid):
    """Of the main thread, and begun by `spawn`, not its helper."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@pytest.mark.slow
def test_a_killed_run_goes_on_once_and_the_others_never_notice(begun, tmp_path):
    process = begun(9, "a", "optional", "c")
    until(lambda: checkpoints(tmp_path / "optional"))
    os.kill(sessions(tmp_path / "optional" / "sessions.txt")[-1][0], signal.SIGKILL)
    until(lambda: len(sessions(tmp_path / "optional" / "sessions.txt")) == 2)
    os.kill(sessions(tmp_path / "optional" / "sessions.txt")[-1][0], signal.SIGKILL)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said, said
    assert "optional: its process was killed; the run goes on in another" in said
    result = json.loads(out)
    assert set(result["took"]) == {"a", "c"}
    assert list(result["failed"]) == ["optional"] and "killed twice" in result["failed"]["optional"]
    assert sessions(tmp_path / "optional" / "sessions.txt")[1][1] >= 50  # from its checkpoint
    assert len(sessions(tmp_path / "a" / "sessions.txt")) == len(sessions(tmp_path / "c" / "sessions.txt")) == 1


@pytest.mark.slow
def test_no_run_outlives_a_killed_parent_and_none_is_doubled(begun, tmp_path):
    process = begun(8, "a", "b")
    until(lambda: steps(tmp_path / "a") > 3 and steps(tmp_path / "b") > 3)
    pids = [pid for name in "ab" for pid, _ in sessions(tmp_path / name / "sessions.txt")]
    process.kill()
    until(lambda: not any(map(is_alive, pids)), 10)
    for name in "ab":
        assert checkpoints(tmp_path / name)[-1].name == f"step_{steps(tmp_path / name):06d}"
    again = begun(8, "a", "b")
    assert again.wait(60) == 0
    for name in "ab":
        assert sessions(tmp_path / name / "sessions.txt")[1][1] > 3


def test_the_clock_of_a_run_begins_with_it(tmp_path):
    cells = [Cell(name, "mae", "k", 8) for name in "ab"]
    Runner(tmp_path, {"mae": clock}, 1).run(cells, 1.0, dict.fromkeys("ab", 1.0), "runs")
    assert all(json.loads((tmp_path / name / "summary.json").read_text()) < 0.9 for name in "ab")


def clock(argv):
    """A trainer of half a second, which writes down how long it has been at work."""
    from trainers.timing import seconds_since_start

    time.sleep(0.5)
    (Path(argv[-1]) / "summary.json").write_text(json.dumps(seconds_since_start()))
    return 0


@pytest.mark.slow
def test_a_real_reproduction_interrupted_in_the_middle(tmp_path, environment):
    root = tmp_path / "whole"
    command = [sys.executable, "-m", "trainers.reproduce", "mae", "--budget=0.5", f"--out={root}",
               f"--recipe={HERE / 'reproduce_tiny.yaml'}"]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        until(lambda: len(list(root.glob("paper/seed0/*/*/summary.json"))) >= 2 or process.poll() is not None, 300)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert "interrupted; go on with: python -m trainers.reproduce mae" in said
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert again.returncode == 0, again.stderr
    assert (root / "table.md").is_file()
