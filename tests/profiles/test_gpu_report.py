"""The report of a GPU, tested without one: its steps at tiny sizes, its page and verdicts on results made up here."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from lensgen.errors import ParameterError, UnknownNameError
from lensgen_kernels import nvrtc
from profiles import gpu_report, gpu_results, gpu_targets, registers, small_render, steps
from profiles.gpu_page import page
from profiles.gpu_steps import SECONDS
from profiles.gpu_targets import MET, MISSED, NOT_JUDGED, NOT_MEASURED
from profiles.steps import DONE, FAILED, Outcome

H200 = {
    "name": "NVIDIA H200", "cuda": True, "capability": [9, 0], "multiprocessors": 132, "memory_bytes": 150e9,
    "free_bytes": 149e9, "driver": "580", "mig": "Disabled", "torch": "2.11", "torch_cuda": "13.0", "cupy": "none",
    "nvrtc": "13.0",
}  # fmt: skip


def record(case, batch, noise, rates, ratios):
    outcomes = [
        {"contender": name, "refused": "" if rate else "out of memory", "images_per_second": {"median": rate}}
        for name, rate in rates.items()
    ]
    times = {other: {"lensgen cuda": {"median": ratio}} for other, ratio in ratios.items()}
    return {"case": case, "batch": batch, "noise": noise, "outcomes": outcomes, "times_as_fast_as": times}


def overlap(share, slower):
    def spread(value):
        return {"median": value}

    result = {
        "share_waiting": {"streamed ahead": spread(share)},
        "slower_than_resident": {"streamed ahead": spread(slower)},
    }
    return {"settings": {"device": "cuda", "engine": "cuda"}, "result": result}


def good() -> dict:
    """Results of all steps, by name, all of them as they should be."""
    rates = {"sie": 30e6, "25 points": 12e6, "25 tnfw": 9e6, "rod": 21e6}
    records = [
        record(c, 2048, True, {"lensgen cuda": r, "lensgen torch": 1e5}, {"lensgen torch": 99.0})
        for c, r in rates.items()
    ]
    small = {"lensgen cuda": 4e6, "lensgen cuda, graph": 9e6}
    records.append(record("sie", 256, True, small, {}))
    peers = {"lensgen cuda": 31e6, "caustics, compiled": 1e6, "caustics": 0}
    records.append(record("sie", 2048, False, peers, {"caustics, compiled": 31.0}))
    usage = {"preset": "model_a", "arch": "sm_90", "refused": "", "registers": 64, "spill_stores": 0, "spill_loads": 0}
    checked = {"engine": "cuda", "errors": 0, "rendered": ["sie", "rod"], "complete": True, "said": []}
    return {
        "card": H200,
        "tests": {"passed": 97, "failed": [], "skipped": 1, "reasons": {"needs two CUDA devices": 1}},
        "engines": {"records": records, "text": "# Engines\n\nmachine\n\nhow\n\n## With noise\n\n| case |"},
        "overlap": overlap(0.004, 1.01),
        "mae": {"steps": 200, "share_simulating": 0.003, "images_per_second": 2e4, "first_loss": 1, "last_loss": 0.5,
                "summary": {"device": "cuda:0"}, "engines": ["cuda"]},
        "memcheck": {**checked, "graph": False},
        "racecheck": {**checked, "graph": False},
        "memcheck_graph": {**checked, "rendered": ["stream"], "graph": True},
        "draws": {"settings": {"device": "cuda", "engine": "cuda"}, "result": {"numbers": 120_000_000, "different": 0}},
        "registers": {"records": [{**usage, "kernel": "image"}, {**usage, "kernel": "draw", "registers": 120}]},
    }  # fmt: skip


def verdicts(results, quick=False):
    outcomes = [Outcome(name, name, DONE, result=result) for name, result in results.items()]
    return {line["what"]: line for line in gpu_targets.targets(outcomes, quick)}


def test_all_aims_are_met_where_they_are():
    lines = verdicts(good())
    reached = {what for what, line in lines.items() if line["verdict"] == MET}
    assert set(lines) - reached == {"times as fast as caustics"}, "which ran out of memory"
    assert lines["times as fast as caustics"]["verdict"] == NOT_MEASURED
    small = lines["sie, batch 256, PSF and noise"]
    assert small["found"] == "9 million/s (lensgen cuda, graph)" and small["aim"] == "8 million/s"
    assert lines["rod, batch 2,048, PSF and noise"]["aim"] == "19.5 million/s, half of 39 million/s"
    assert lines["times as fast as caustics, compiled"]["found"] == "sie 31"


@pytest.mark.parametrize(
    ("what", "place", "value"),
    [
        ("25 tnfw, batch 2,048", ("engines", "records", 2, "outcomes", 0, "images_per_second", "median"), 7.9e6),
        ("wait for images, ViT-S", ("overlap", "result", "share_waiting", "streamed ahead", "median"), 0.021),
        ("wait for images, trainers.mae", ("mae", "share_simulating"), 0.2),
        ("GPU tests", ("tests", "failed"), ["a::b"]),
        ("compute-sanitizer, racecheck", ("racecheck", "errors"), 1),
        ("compute-sanitizer, memcheck, batches of a CUDA graph", ("memcheck_graph", "errors"), 2),
        ("drawn numbers", ("draws", "result", "different"), 1),
        ("drawn numbers", ("draws", "result", "numbers"), 99_000_000),
        ("kernels", ("registers", "records", 0, "registers"), 65),
        ("kernels", ("registers", "records", 1, "spill_loads"), 8),
        ("kernels", ("registers", "records", 0, "refused"), "does not compile"),
    ],
)
def test_each_aim_can_be_missed(what, place, value):
    results = copy.deepcopy(good())
    target = results
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    before, after = verdicts(good()), verdicts(results)
    changed = [name for name in before if before[name]["verdict"] != after[name]["verdict"]]
    assert len(changed) == 1 and changed[0].startswith(what) and after[changed[0]]["verdict"].startswith(MISSED)


def test_speeds_are_judged_on_the_processor_that_they_are_of():
    results = good()
    results["card"] = {**H200, "name": "NVIDIA H100 80GB HBM3"}
    assert verdicts(results)["sie, batch 2,048, PSF and noise"]["verdict"] == MET
    results["card"] = {**H200, "name": "NVIDIA RTX A2000", "capability": [8, 6], "multiprocessors": 26}
    line = verdicts(results)["sie, batch 2,048, PSF and noise"]
    assert line["verdict"] == NOT_JUDGED and "24" not in line["aim"] and line["found"].startswith("30 million/s")


NO_CUPY = "kernels cannot run here: CuPy cannot be imported (No module named 'cupy'). Fix: pip install cupy-cuda13x"


@pytest.mark.parametrize(
    ("what", "place", "value"),
    [
        ("wait for images, ViT-S", ("overlap", "settings", "engine"), "torch"),
        ("wait for images, trainers.mae", ("mae", "engines"), ["torch"]),
        ("wait for images, trainers.mae", ("mae", "engines"), []),
        ("GPU tests", ("tests", "reasons"), {"needs two CUDA devices": 1, NO_CUPY: 40}),
        ("GPU tests", ("tests", "reasons"), {"cuda-bindings cannot be imported": 2}),
        ("GPU tests", ("tests", "passed"), 0),
        ("compute-sanitizer, memcheck", ("memcheck", "engine"), "torch"),
        ("compute-sanitizer, racecheck", ("racecheck", "engine"), None),
        ("compute-sanitizer, memcheck, batches of a CUDA graph", ("memcheck_graph", "graph"), False),
        ("drawn numbers", ("draws", "settings", "engine"), "torch"),
    ],
)
def test_what_torch_did_in_place_of_kernels_meets_nothing(what, place, value):
    results = copy.deepcopy(good())
    *way, last = place
    target = results
    for key in way:
        target = target[key]
    target[last] = value
    before, after = verdicts(good()), verdicts(results)
    (changed,) = (name for name in before if before[name]["verdict"] != after[name]["verdict"])
    assert changed.startswith(what) and after[changed]["verdict"] == NOT_MEASURED


def test_nothing_measured_is_nothing_met():
    assert {line["verdict"] for line in verdicts({}).values()} == {NOT_MEASURED}
    results = good()
    for name in ("memcheck", "racecheck", "memcheck_graph"):
        results[name]["errors"] = None
    results["draws"]["settings"]["device"] = results["overlap"]["settings"]["device"] = "cpu"
    results["mae"]["summary"]["device"] = "cpu"
    results["card"] = {"name": "a CPU", "cuda": False}
    del results["engines"], results["registers"], results["tests"]
    assert {line["verdict"] for line in verdicts(results).values()} == {NOT_MEASURED}


def test_the_page_shows_what_there_is():
    outcomes = [Outcome(name, name, DONE, result=result) for name, result in good().items()]
    outcomes.append(
        Outcome("scaling", "how the cost grows", FAILED, "exit status 1", tail="Zero```Division", command="x")
    )
    content = {
        "card": H200, "machine": {}, "targets": gpu_targets.targets(outcomes, False),
        "settings": {"quick": False, "ended": True, "seconds": 400.0, "budget": 465.0},
        "steps": [vars(outcome) for outcome in outcomes],
    }  # fmt: skip
    text = page(content, {"mae": "x_mae.png"})
    for part in (
        "# GPU report: NVIDIA H200", "| MIG | no |", "| multiprocessors | 132 |", "### With noise",
        "| sie | 2,048 | yes | 30,000,000 | 99 |", "0.30% of the time waiting", "![Reconstructions", "exit status 1",
        "memcheck: 0 errors; engine cuda rendered sie; rod\n", "rendered stream; from a CUDA graph", "97 passed",
        "1 skipped: needs two CUDA devices", "on cuda:0, engine cuda:", "400 s in all", "Zero'''Division",
    ):  # fmt: skip
        assert part in text, part
    assert "quick" not in text and "Not all" not in text
    nothing = page(
        {**content, "card": {}, "targets": [], "steps": [], "settings": {**content["settings"], "ended": False}}, {}
    )
    assert "Not all steps have run" in nothing


@pytest.mark.parametrize(
    ("log", "errors"),
    [
        ("rendered sie\n========= ERROR SUMMARY: 0 errors\nrendered everything", 0),
        ("rendered sie\n========= Invalid __global__ write\n========= ERROR SUMMARY: 3 errors", 3),
        ("rendered sie\n========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)", 2),
        ("rendered sie\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0),
        ("rendered sie\nrendered rod", None),
        ("========= Error: Device not supported\nrendered sie\n========= ERROR SUMMARY: 0 errors", None),
        ("Traceback\n========= ERROR SUMMARY: 0 errors", None),
    ],
)
def test_what_the_sanitizer_says_is_counted(tmp_path, log, errors):
    (tmp_path / "memcheck.log").write_text(log)
    found = gpu_results.checker("memcheck")(tmp_path)
    assert found["errors"] == errors and found["complete"] == ("everything" in log)
    assert found["engine"] is None and not found["graph"]
    assert "everything" not in found["rendered"] and gpu_results.checker("racecheck")(tmp_path) == {}


def test_the_engine_and_the_graph_under_the_sanitizer_are_read(tmp_path):
    said = "========= COMPUTE-SANITIZER\nengine cuda\n{}\nrendered stream\n========= ERROR SUMMARY: 0 errors\n"
    for graph in (small_render.GRAPH, small_render.NO_GRAPH):
        (tmp_path / "memcheck_graph.log").write_text(said.format(graph))
        found = gpu_results.checker("memcheck_graph")(tmp_path)
        assert found["engine"] == "cuda" and found["graph"] == (graph == small_render.GRAPH)
        assert found["rendered"] == ["stream"] and found["errors"] == 0


def test_reports_of_pytest_and_of_a_training_run_are_read(tmp_path):
    assert gpu_results.tests(tmp_path) == gpu_results.mae(tmp_path) == gpu_results.script("draws")(tmp_path) == {}
    cases = '<testcase classname="t" name="a"/><testcase classname="t" name="b"><failure/></testcase>'
    cases += '<testcase classname="t" name="c"><skipped type="pytest.skip" message="no CuPy">at c</skipped></testcase>'
    suite = f'<testsuite tests="3" failures="1" errors="0" skipped="1" time="2.5">{cases}</testsuite>'
    (tmp_path / "tests.xml").write_text(f"<testsuites>{suite}</testsuites>")
    found = gpu_results.tests(tmp_path)
    assert (found["passed"], found["skipped"], found["failed"]) == (1, 1, ["t::b"])
    assert found["reasons"] == {"no CuPy": 1}
    (tmp_path / "mae_run").mkdir()
    rows = [f"{n},{2 - n / 4},{100 * n},{0.5 if n < 3 else 0.01}" for n in range(1, 5)]
    (tmp_path / "mae_run" / "train.csv").write_text("\n".join(["step,loss,images_per_second,share_simulating", *rows]))
    found = gpu_results.mae(tmp_path)
    assert found["engines"] == []
    (tmp_path / "mae.log").write_text("lensgen: engine 'cuda' (fused)\n  1/200\nlensgen: batches are slower\n")
    found = gpu_results.mae(tmp_path)
    assert (
        found["engines"] == ["cuda"]
        and found["steps"] == 4
        and found["share_simulating"] == 0.01
        and found["images_per_second"] == 350
    )


@pytest.mark.skipif(nvrtc.available() is not None, reason="needs NVRTC")
def test_registers_of_kernels(tmp_path):
    out = tmp_path / "registers"
    registers.main(["--presets", "model_a", "--arch", "sm_80", "sm_90", "--out", str(out)])
    found = gpu_results.script("registers")(tmp_path)
    assert [(r["kernel"], r["arch"]) for r in found["records"]] == [
        (kernel, arch) for arch in ("sm_80", "sm_90") for kernel in registers.KERNELS
    ]
    assert all(not r["refused"] and 16 < r["registers"] <= 255 for r in found["records"])
    assert "| model_a | image | sm_90 |" in found["text"]


def test_without_a_gpu_the_report_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match=r"no CUDA device.*--quick"):
        gpu_report.GpuReport()
    with pytest.raises(UnknownNameError, match="unknown step 'drawing'"):
        gpu_report.GpuReport(quick=True, steps=("drawing",))


def check(out, names):
    content = json.loads(out.with_suffix(".json").read_text())
    assert content["kind"] == "gpu_report" and content["settings"]["quick"] and content["settings"]["ended"]
    assert [step["name"] for step in content["steps"]] == names
    assert {step["status"] for step in content["steps"]} <= {DONE, steps.SKIPPED}, content["steps"]
    assert {line["verdict"] for line in content["targets"]} == {NOT_MEASURED}
    text = out.with_suffix(".md").read_text()
    assert "A quick run" in text and "met | **" not in text
    return content, text


def test_some_steps(tmp_path, capsys):
    out = tmp_path / "report"
    assert gpu_report.main(["--quick", "--steps", "card", "racecheck", "memcheck_graph", "--out", str(out)]) == 0
    content, text = check(out, ["card", "racecheck", "memcheck_graph"])
    graph = content["steps"][2]["result"]
    assert (graph["engine"], graph["rendered"], graph["graph"], graph["complete"]) == ("torch", ["stream"], False, True)
    assert content["card"]["name"] in text and "; stream; model_a" in text
    assert "not measured: compute-sanitizer, racecheck" in capsys.readouterr().out


@pytest.mark.slow
def test_all_steps(tmp_path):
    out = tmp_path / "report"
    assert gpu_report.main(["--quick", "--minutes", "10", "--out", str(out)]) == 0
    content, text = check(out, list(SECONDS))
    results = {step["name"]: step["result"] for step in content["steps"]}
    assert results["engines"]["records"] and results["overlap"]["result"] and results["mae"]["steps"] == 6
    assert (
        results["draws"]["result"]["different"] == 0 and results["mae"]["engines"] and results["memcheck"]["complete"]
    )
    for name in ("throughput", "scaling", "overlap", "memory", "mae"):
        assert (tmp_path / f"report_{name}.png").stat().st_size > 1000 and f"(report_{name}.png)" in text
