"""The simulator: image i is image i however it is asked for, and what is asked for wrongly is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from lensgen import Batch, Simulator
from lensgen.errors import EngineError, ParameterError, PresetError, UnknownNameError
from tests.every_preset import EVERY_PRESET

# shapes and rays: one pixel, odd, rows that are no multiple of a vector, several chunks of several images
GRIDS = {
    "1x1": {"grid.size": 1, "grid.supersampling": 1},
    "7x9 at 3x3": {"grid.size": [7, 9], "grid.supersampling": 3},
    "33x65": {"grid.size": [33, 65], "grid.supersampling": 1},
    "64x64 at 2x2": {"grid.size": 64, "grid.supersampling": 2},
}


def same(a: Batch, b: Batch) -> bool:
    """Every bit of two batches."""
    assert set(a.params) == set(b.params) and set(a.maps) == set(b.maps)
    return (
        torch.equal(a.image, b.image)
        and torch.equal(a.label, b.label)
        and torch.equal(a.index, b.index)
        and all(torch.equal(a.params[k], b.params[k]) for k in a.params)
        and all(torch.equal(a.maps[k], b.maps[k]) for k in a.maps)
    )


def picked(batch: Batch, positions: torch.Tensor) -> Batch:
    return batch.map(lambda t: t[positions])


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("preset", EVERY_PRESET)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_bits_however_batched(preset, grid, dtype) -> None:
    simulator = Simulator(preset, seed=3, device="cpu", dtype=dtype).override(grid)
    whole = simulator.batch(0, 13)
    assert whole.image.shape == (13, *simulator.image_shape) and whole.image.dtype == dtype
    assert len(whole.label.unique()) == 3  # the classes are mixed
    # sizes, order, repetition, one by one, and one class alone
    assert same(Batch.cat([simulator.batch(0, 5), simulator.batch(5, 8)]), whole)
    order = torch.tensor([12, 0, 7, 7, 3, 1])
    assert same(simulator.batch(indices=order), picked(whole, order))
    assert same(simulator[4], picked(whole, torch.tensor([4])))
    for label in range(3):
        of_class = (whole.label == label).nonzero()[:, 0]
        assert same(simulator.batch(indices=of_class), picked(whole, of_class))


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_same_bits_across_chunks_and_blocks(preset: str) -> None:
    """Images of 8x8 pixels fill chunks of hundreds, and 1,100 systems two blocks of drawing."""
    simulator = Simulator(preset, seed=5, device="cpu").override({"grid.size": 8, "grid.supersampling": 1})
    whole = simulator.batch(0, 1100)
    positions = torch.tensor([0, 1, 447, 448, 449, 895, 896, 1023, 1024, 1025, 1099])
    assert same(simulator.batch(indices=positions), picked(whole, positions))
    assert same(simulator.batch(440, 20), picked(whole, torch.arange(440, 460)))
    assert same(simulator[1024], picked(whole, torch.tensor([1024])))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("size, number", [(20, 40), (101, 3)])  # torch splits tensors of more than 32,768 numbers
def test_same_bits_with_threads_and_with_gradients_on(threads: int, gradients: bool, size: int, number: int) -> None:
    simulator = Simulator("model_a", seed=1, device="cpu").override({"grid.size": size})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = simulator.batch(0, number)
        torch.set_num_threads(threads)
        with torch.set_grad_enabled(gradients):
            assert same(simulator.batch(0, number), expected)
        assert torch.get_num_threads() == threads  # rendering on one thread must not stick
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_image_does_not_depend_on_other_outputs(preset: str) -> None:
    simulator = Simulator(preset, seed=2, device="cpu").override({"grid.size": 24})
    alone, more = simulator.batch(0, 6), simulator.with_outputs("image", "clean", "smooth").batch(0, 6)
    assert torch.equal(alone.image, more.image)
    assert set(more.maps) == {"clean", "smooth"} and not alone.maps
    smooth = more.label == simulator.class_names.index("no_sub")
    assert torch.equal(more.maps["clean"][smooth], more.maps["smooth"][smooth])
    with_dark_matter = (more.maps["clean"] != more.maps["smooth"]).flatten(1).any(1)
    assert torch.equal(with_dark_matter, ~smooth)


UNRELATED = {
    "another population": ({"substructure.axion.mass": 1e9}, (0, 1)),
    "noise": ({"noise.recipe": "lenstronomy"}, (0, 1, 2)),
    "grid": ({"grid.size": 40, "grid.supersampling": 1}, (0, 1, 2)),
    "a prior of the source": ({"source.R_sersic": 0.2}, (0, 1, 2)),
}


@pytest.mark.parametrize("changes, labels", UNRELATED.values(), ids=UNRELATED)
def test_parameters_do_not_depend_on_unrelated_options(changes, labels) -> None:
    """A number belongs to its name: what else a preset draws does not shift it."""
    simulator = Simulator("model_a", seed=4, device="cpu")
    before, after = (s.batch(0, 24) for s in (simulator, simulator.override(changes)))
    rows = torch.isin(before.label, torch.tensor(labels))
    touched = {"substructure.axion.mass", "source.R_sersic", "source.amp"}
    assert torch.equal(before.label, after.label)
    for key in set(before.params) - touched:
        assert torch.equal(before.params[key][rows], after.params[key][rows]), key


def test_more_subhalos_leave_the_first_ones_where_they_were() -> None:
    from lensgen.draw import draw

    simulator = Simulator("model_a", seed=4, device="cpu")
    index = torch.arange(200)
    index = index[simulator.labels(index) == 1][:10]
    few, many = (
        draw(simulator.preset.override({"substructure.cdm.count": n}), simulator.random, index).scene.mass[2]
        for n in (5, 40)
    )
    for key, values in few.parameters.items():
        assert torch.equal(values[:, :5], many.parameters[key][:, :5])


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_parameters_have_the_same_bits_in_float64(preset: str) -> None:
    single, double = (
        Simulator(preset, seed=6, device="cpu", dtype=dtype).override({"grid.size": 16, "grid.supersampling": 1})
        for dtype in (torch.float32, torch.float64)
    )
    a, b = single.batch(0, 12), double.batch(0, 12)
    assert all(torch.equal(a.params[k], b.params[k]) for k in a.params)
    assert all(v.dtype == torch.float32 for v in b.params.values())


def test_seeds_and_splits_are_other_worlds() -> None:
    first = Simulator("model_a", seed=0, device="cpu").override({"grid.size": 8})
    values = [first.batch(0, 50).params["lens.theta_E"]]
    for seed, split in ((0, "val"), (0, "test"), (1, "train")):
        other = Simulator(first.preset, seed=seed, split=split, device="cpu").batch(0, 50)
        values.append(other.params["lens.theta_E"])
    assert len(torch.cat(values).unique()) > 195  # 23 bits of uniform: a chance meeting is one in 400


def test_last_index() -> None:
    simulator = Simulator("model_a", device="cpu").override({"grid.size": 8})
    last = 2**63 - 1
    batch = simulator.batch(indices=torch.tensor([last, 0]))
    assert batch.index.tolist() == [last, 0]
    assert not torch.equal(batch.image[0], batch.image[1])


def test_labels_are_those_of_the_images() -> None:
    simulator = Simulator("model_b", seed=9, device="cpu").override({"grid.size": 8})
    batch = simulator.batch(100, 30)
    assert torch.equal(simulator.labels(batch.index), batch.label)
    assert batch.class_names == ("no_sub", "cdm", "axion")


WRONG = {
    "unknown preset": (lambda: Simulator("model_aa"), UnknownNameError, r"unknown preset 'model_aa'. Did you mean"),
    "unknown engine": (lambda: Simulator("model_a", engine="cud"), UnknownNameError, r"unknown engine 'cud'"),
    "engine of a GPU": (
        lambda: Simulator("model_a", device="cpu", engine="cuda"),
        EngineError,
        r"runs on cuda, not on",
    ),
    "unknown split": (lambda: Simulator("model_a", split="tset"), UnknownNameError, r"Did you mean 'test'"),
    "unknown output": (lambda: Simulator("model_a", outputs=("clear",)), UnknownNameError, r"Did you mean 'clean'"),
    "outputs as a string": (lambda: Simulator("model_a", outputs="clean"), ParameterError, r"outputs = 'clean'"),
    "unknown device": (lambda: Simulator("model_a", device="gpu"), ParameterError, r"device = 'gpu': use 'auto'"),
    "half": (lambda: Simulator("model_a", dtype=torch.float16), ParameterError, r"use torch.float32 or torch.float64"),
    "seed": (lambda: Simulator("model_a", seed=-1), ParameterError, r"seed = -1 is outside"),
}


@pytest.mark.parametrize("make, error, message", WRONG.values(), ids=WRONG)
def test_wrong_simulators(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()


def test_cuda_without_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ParameterError, match=r"torch sees 0 CUDA devices: use 'cpu' or 'auto'"):
        Simulator("model_a", device="cuda")
    assert Simulator("model_a", device="auto").device == torch.device("cpu")


def test_a_simulator_has_no_last_image() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        iter(Simulator("model_a"))


def test_index_of_numpy_and_negative_index() -> None:
    small = Simulator("model_a").override({"grid.size": 8})
    assert torch.equal(small[np.int64(3)].image, small[3].image)
    with pytest.raises(ParameterError, match=r"index = -1 is outside"):
        small[-1]


BATCHES = {
    "nothing": ({}, r"either start and size, or indices"),
    "both": ({"size": 2, "indices": torch.tensor([1])}, r"either start and size, or indices"),
    "start and indices": ({"start": 0, "indices": torch.tensor([1])}, r"either start and size, or indices"),
    "start alone": ({"start": 3}, r"either start and size, or indices"),
    "size 0": ({"start": 0, "size": 0}, r"size = 0 "),
    "size -1": ({"start": 0, "size": -1}, r"size = -1 "),
    "size float": ({"start": 0, "size": 2.0}, r"size = 2.0 .*whole number"),
    "size bool": ({"start": 0, "size": True}, r"size = True .*whole number"),
    "start -1": ({"start": -1, "size": 4}, r"start = -1 is outside"),
    "start float": ({"start": 0.5, "size": 4}, r"start = 0.5 .*whole number"),
    "start too far": ({"start": 2**63 - 2, "size": 4}, r"start = 9223372036854775806 is outside"),
    "start huge": ({"start": 2**80, "size": 4}, r"start = .* is outside"),
    "no index": ({"indices": torch.tensor([], dtype=torch.int64)}, r"shape \[B\], B >= 1"),
    "float indices": ({"indices": torch.tensor([1.0])}, r"indices must be whole numbers"),
    "bool indices": ({"indices": torch.tensor([True, False])}, r"indices must be whole numbers"),
    "scalar index": ({"indices": torch.tensor(3)}, r"shape \[B\], B >= 1"),
    "matrix": ({"indices": torch.zeros(2, 2, dtype=torch.int64)}, r"shape \[B\], B >= 1"),
    "negative": ({"indices": torch.tensor([4, -1])}, r"index -1 is negative"),
}


@pytest.mark.parametrize("arguments, message", BATCHES.values(), ids=BATCHES)
def test_wrong_batches(arguments, message) -> None:
    simulator = Simulator("model_a", device="cpu").override({"grid.size": 4})
    with pytest.raises(ParameterError, match=message):
        simulator.batch(**arguments)


@pytest.mark.parametrize("index", [1.0, True, "3", slice(0, 3), None])
def test_wrong_single_index(index) -> None:
    with pytest.raises(ParameterError, match=r"index = .* must be one whole number"):
        Simulator("model_a", device="cpu")[index]


def test_other_whole_number_types_are_indices() -> None:
    simulator = Simulator("model_a", device="cpu").override({"grid.size": 4})
    for dtype in (torch.int32, torch.uint8):
        assert same(simulator.batch(indices=torch.tensor([3, 9], dtype=dtype)), simulator.batch(indices=[3, 9]))


def test_a_preset_object_or_path_is_as_good_as_a_name(tmp_path) -> None:
    import yaml

    by_name = Simulator("model_a", device="cpu").override({"grid.size": 8})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dict(by_name.preset.config), sort_keys=False))
    for preset in (by_name.preset, path, str(path)):
        assert same(Simulator(preset, device="cpu").batch(0, 3), by_name.batch(0, 3))
    with pytest.raises(PresetError, match=r"is not there"):
        Simulator(tmp_path / "none.yaml")


def test_a_simulator_that_was_used_can_be_sent_to_another_process() -> None:
    simulator = Simulator("model_a", device="cpu")
    batch = simulator.batch(0, 3)
    assert same(pickle.loads(pickle.dumps(simulator)).batch(0, 3), batch)


def test_repr_says_what_it_is() -> None:
    text = repr(Simulator("model_a", seed=3, split="val", device="cpu"))
    assert text == "Simulator('model_a', seed=3, split='val', device='cpu', engine='auto')"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_4096_images_with_100_tnfw_each() -> None:
    """Under 2 GiB above the interpreter's own. 32x32 pixels, to save minutes: a chunk holds as many numbers as at 64x64
    and only the images themselves (16 MiB, 64 MiB there) grow."""
    program = """
        import re, torch
        from pathlib import Path
        from lensgen import Simulator
        torch.set_num_threads(1)
        def peak():  # KiB; getrusage would begin at what pytest itself has used
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        halos = {"population": "cdm_tnfw", "count": 100,
                 "mass": {"power_law": {"slope": -1.9, "low": 1e7, "high": 1e10}},
                 "radius": {"power_law": {"slope": 1.0, "low": 0.05, "high": 2.5}}, "concentration": 16.0,
                 "concentration_slope": -0.06, "concentration_scatter": 0.2, "tau": 5.0}
        changes = {"grid.size": 32, "grid.supersampling": 1, "substructure": {"cdm": halos}}
        simulator = Simulator("model_a", device="cpu").override(changes)
        simulator.batch(0, 2)
        before = peak()
        batch = simulator.batch(0, 4096)
        assert batch.image.shape == (4096, 1, 32, 32)
        print((peak() - before) / 2**20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert 0.0 < float(done.stdout) < 2.0, done.stdout
