"""Comparing drawn numbers: every bit counts, and what differs is named."""

from __future__ import annotations

import json

import torch

from lensgen import Simulator
from lensgen.draw import draw
from profiles import draws


def numbers(preset="model_a", first=0):
    simulator = Simulator(preset, 0, "cpu", "torch")
    index = torch.arange(first, first + 4)
    return draws.numbers_of(draw(simulator.preset, simulator.random, index)), index


def test_all_tensors_of_drawn_systems_are_found():
    found, _ = numbers()
    assert {"label", "exposure.0", "psf_choice.0", "params.lens.theta_E", "scene.mass.lens.theta_E"} <= found.keys()
    assert any(name.startswith("scene.mass.") and found[name].dim() == 2 for name in found), "slots of subhalos"
    assert any(name.endswith(".count") for name in found) and any(name.startswith("scene.source.") for name in found)


def test_the_last_bit_the_sign_of_zero_and_nan_count():
    ours, index = numbers()
    theirs = {name: values.clone() for name, values in ours.items()}
    assert draws.compare(ours, theirs, "model_a", index)["different"] == 0
    theta_E = theirs["scene.mass.lens.theta_E"]
    theta_E[2] = torch.nextafter(theta_E[2], torch.tensor(9.0))
    theirs["params.redshift.lens"][0] = -0.0
    ours["params.redshift.lens"][0] = 0.0
    theirs["exposure.0"][1] = ours["exposure.0"][1] = torch.nan
    found = draws.compare(ours, theirs, "model_a", index + 70)
    assert found["different"] == 2
    assert any("model_a, index 72, scene.mass.lens.theta_E" in line for line in found["named"])
    assert found["numbers"] == sum(v.numel() for name, v in theirs.items() if not name.startswith("smooth."))


def test_blocks_begin_near_and_far():
    firsts = [draws.first_index(block, 1000) for block in range(6)]
    assert firsts[0] == 0 and firsts[2] == 2000 and all(0 <= first < 2**61 for first in firsts)
    assert min(firsts[1], firsts[3], firsts[5]) > 2**40
    config = draws.Draws(presets=("hst",), bulk=("model_a", "model_b"), device="cpu")
    plan = [next(blocks) for blocks in [draws.blocks_of(config)] for _ in range(5)]
    assert plan == [("hst", 0, True), *((p, b, False) for b in (1, 2) for p in ("model_a", "model_b"))]


def test_the_script(tmp_path):
    out = tmp_path / "draws"
    flags = ["--device", "cpu", "--engine", "torch", "--few", "8", "--bulk", "--presets", "model_a", "hst"]
    draws.main([*flags, "--out", str(out)])
    result = json.loads(out.with_suffix(".json").read_text())["result"]
    assert result["different"] == 0 and set(result["presets"]) == {"model_a", "hst"}
    assert result["numbers"] == sum(total["numbers"] for total in result["presets"].values()) > 1000
    assert "**0 differ**" in out.with_suffix(".md").read_text()
