"""Each script from end to end at its smallest, and the form of what it writes."""

from __future__ import annotations

import json
import re

import pytest

from lensgen.errors import LensgenError
from profiles import memory, overlap, scaling, throughput
from profiles.scaling import fit_power

FEW = ["--engines", "lensgen torch", "lenstronomy"]
SPREAD = {"median", "low", "high", "lower_quartile", "upper_quartile", "count"}


def run(script, tmp_path, capsys, *flags):
    out = tmp_path / "result"
    script.main(["--quick", "--out", str(out), *flags])
    assert out.with_suffix(".png").stat().st_size > 1000
    text = out.with_suffix(".md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    content = json.loads(out.with_suffix(".json").read_text())
    assert content["format"] == 1 and {"cpu", "cores", "versions", "commit", "date"} <= set(content["machine"])
    assert "torch" in content["machine"]["versions"]
    return content, text


def test_throughput(tmp_path, capsys):
    engines = [*FEW, "caustics", "renderer alone, torch", "Simulator.batch, torch"]
    content, text = run(throughput, tmp_path, capsys, *engines)
    on, off, preset = content["records"]
    assert on["noise"] and not off["noise"] and preset["preset"]
    for record in (on, off):
        found = {o["contender"]: o for o in record["outcomes"]}
        for name in ("lensgen torch", "lenstronomy"):
            assert [run["round"] for run in found[name]["runs"]] == [0, 1]
            assert set(found[name]["images_per_second"]) == SPREAD
            assert found[name]["deviation"] < 1e-4
        assert record["times_as_fast_as"]["lenstronomy"]["lenstronomy"]["median"] == 1.0
    assert "caustics" in {o["contender"] for o in off["outcomes"]}
    assert set(preset["times_as_fast_as"]["renderer alone"]) == {"Simulator.batch, torch"}
    assert "quick look" in text and "| sie | lensgen torch |" in text


def test_scaling(tmp_path, capsys):
    content, text = run(scaling, tmp_path, capsys, *FEW, "--axes", "pixels", "tnfw")
    assert [(r["axis"], r["contender"]) for r in content["records"]] == [
        (axis, name) for axis in ("pixels of an image", "TNFW subhalos") for name in ("lensgen torch", "lenstronomy")
    ]
    for record in content["records"]:
        assert len(record["values"]) == len(record["images_per_second"]) == 3
        assert len(record["fit"]["points"]) == scaling.FITTED
    assert "power" in text


def test_memory(tmp_path, capsys):
    content, _ = run(memory, tmp_path, capsys, "--engines", "lensgen torch")
    (record,) = content["records"]
    assert record["peak"]["median"] > record["added"]["median"] >= 0
    assert record["samples"][0]["after"]["peak"] >= record["samples"][0]["before"]["resident"]


def test_overlap(tmp_path, capsys):
    content, text = run(overlap, tmp_path, capsys)
    result = content["result"]
    assert set(result["seconds_a_step"]) == {"streamed", "memory", "disk"}
    assert 0.0 < result["simulators_share"]["median"] <= 1.0
    assert result["slower_than_memory"]["memory"]["median"] == 1.0
    assert "of a streamed step" in text


def test_a_power_law_is_found():
    fit = fit_power([1, 10, 100, 1000], [9.0, 2e1, 2e3, 2e5])
    assert fit["exponent"] == pytest.approx(2.0) and fit["factor"] == pytest.approx(0.2)
    assert fit["points"] == [10, 100, 1000] and fit["residual"] < 1e-9
    assert fit_power([4.0], [1.0]) is None and fit_power([], []) is None


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (throughput, ["--cases", "seis"], "unknown case 'seis'"),
        (throughput, ["--engines", "lenstronmy"], "Did you mean 'lenstronomy'"),
        (throughput, ["--repeats", "0"], "--repeats"),
        (throughput, ["--presets", "model_z"], "unknown preset"),
        (throughput, ["--sizes", "0"], "--sizes"),
        (scaling, ["--axes", "colour"], "unknown axis"),
        (scaling, ["--engines", "Simulator.batch, torch"], "presets alone"),
        (memory, ["--batches", "0"], "--batches"),
        (overlap, ["--sources", "disk"], "streamed and memory"),
        (overlap, ["--engine", "tensor"], "unknown engine"),
    ],
)
def test_bad_options_are_explained(script, flags, message, capsys):
    """tyro turns a ValueError into its message and status 2; report.run does so with the others."""
    with pytest.raises((LensgenError, SystemExit)) as caught:
        script.main(flags)
    if caught.type is SystemExit:
        assert caught.value.code == 2
        said = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    else:
        said = str(caught.value)
    assert message in said


def test_a_folder_is_no_place_for_results(tmp_path):
    with pytest.raises(LensgenError, match="is a folder"):
        memory.main(["--quick", "--out", str(tmp_path)])
