"""Stored sets: what is read, in which order, and what is refused."""

import dataclasses
import hashlib
import pickle

import h5py
import numpy as np
import pytest
import torch

import lensgen
from trainers.config import DataConfig, ValidationConfig
from trainers.data import PROBED_PARAMETERS, open_data
from trainers.errors import DataError
from trainers.stored import StoredStream, read_stored

CPU = torch.device("cpu")


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def good(count=40):
    rng = np.random.default_rng(1)
    image = rng.random((count, 8, 8), dtype=np.float32)
    return {"image": image, "label": np.arange(count) % 3, "theta_E": rng.random(count)}


def test_npz_and_hdf5_give_the_same(tmp_path):
    one = read_stored(save(tmp_path / "a.npz", **good()))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in good().items():
            file[name] = array
    two = read_stored(tmp_path / "a.h5")
    assert torch.equal(one.image, two.image) and torch.equal(one.label, two.label)
    assert one.image.shape == (40, 1, 8, 8) and list(one.params) == ["theta_E"] and one.fingerprint == two.fingerprint


def test_channels_and_whole_numbers_are_read(tmp_path):
    path = save(tmp_path / "a.npz", image=np.full((5, 2, 8, 8), 3, dtype=np.uint8), label=np.zeros(5, int))
    assert read_stored(path).image.shape == (5, 2, 8, 8) and read_stored(path).image.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "no array 'image'; it has: label, theta_E"),
        ({"label": None}, "no array 'label'"),
        ({"image": np.zeros((40, 8))}, r"must be \[N,C,H,W\] or \[N,H,W\]"),
        ({"image": np.zeros((0, 8, 8))}, r"must be \[N,C,H,W\]"),
        ({"label": np.zeros(7, int)}, r"must be integers from 0, of shape \[40\]"),
        ({"label": np.zeros(40)}, "must be integers"),
        ({"label": np.full(40, -1)}, "must be integers"),
        ({"image": np.full((40, 8, 8), np.nan)}, "40 images are not finite, first in row 0"),
    ],
)
def test_bad_arrays_are_explained(tmp_path, change, message):
    arrays = {name: array for name, array in {**good(), **change}.items() if array is not None}
    with pytest.raises(DataError, match=message):
        read_stored(save(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_files_that_are_something_else(tmp_path, name):
    (tmp_path / name).write_bytes(b"no such format")
    with pytest.raises(DataError, match=r"a\.(npz|h5) cannot be read"):
        read_stored(tmp_path / name)


def test_truncated_missing_and_unknown_files(tmp_path):
    path = save(tmp_path / "a.npz", **good())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        read_stored(path)
    with pytest.raises(DataError, match="no such file"):
        read_stored(tmp_path / "b.npz")
    (tmp_path / "a.pt").touch()
    with pytest.raises(DataError, match=r"give \.npz, \.h5 or \.hdf5"):
        read_stored(tmp_path / "a.pt")


class Bomb:
    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


@pytest.mark.parametrize("wrap", [True, False])
def test_nothing_is_unpickled(tmp_path, wrap):
    path = tmp_path / "a.npz"
    if wrap:
        save(path, **{**good(), "image": np.array([Bomb()] * 40, dtype=object)})
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="cannot be read"):
        read_stored(path)
    assert not Bomb.exploded


def test_each_epoch_has_every_row_once_in_a_new_order(tmp_path):
    stored = read_stored(save(tmp_path / "a.npz", **good()))
    batches = iter(StoredStream(stored, torch.arange(30), 7, seed=3, device=CPU))
    rows = torch.cat([next(batches).index for _ in range(13)])
    epochs = rows[:90].split(30)
    assert all(torch.equal(epoch.sort().values, torch.arange(30)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_two_ranks_share_out_the_sequence_of_one(tmp_path):
    stored = read_stored(save(tmp_path / "a.npz", **good()))
    one = iter(StoredStream(stored, torch.arange(40), 5, 0, CPU))
    ranks = [iter(StoredStream(stored, torch.arange(40), 5, 0, CPU, rank, 2)) for rank in (0, 1)]
    for number in range(10):
        assert torch.equal(next(one).index, next(ranks[number % 2]).index)


def test_a_resumed_stream_goes_on_and_refuses_other_data(tmp_path):
    stored = read_stored(save(tmp_path / "a.npz", **good()))
    first = StoredStream(stored, torch.arange(40), 5, 0, CPU)
    batches = iter(first)
    next(batches)
    second = StoredStream(stored, torch.arange(40), 5, 0, CPU)
    second.load_state_dict(first.state_dict())
    assert torch.equal(next(iter(second)).index, next(batches).index)
    for change in ({"seed": 1}, {"fingerprint": "other"}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} of .*another set"):
            second.load_state_dict({**first.state_dict(), **change})
    for position in (None, -1, "3", 1.5):
        with pytest.raises(ValueError, match=r"next_batch = .*must be a whole number"):
            second.load_state_dict({**first.state_dict(), "next_batch": position})


def test_validation_and_test_images_are_held_out_whatever_the_seed(tmp_path):
    path = save(tmp_path / "a.npz", **good(60))
    validation = ValidationConfig(fit=10, score=10, test=9, neighbours=3)
    held_out = []
    for seed in (0, 1):
        data = open_data(DataConfig(data=path, seed=seed), validation, 20, CPU)
        batches = iter(data.source)
        seen = set(torch.cat([next(batches).index for _ in range(6)]).tolist())
        tested = [batch.index.tolist() for batch in data.test(4)]
        held_out.append([data.fit.index.tolist(), data.score.index.tolist(), *tested])
        away = [row for part in held_out[-1] for row in part]
        assert len(seen) == 31 and len(set(away)) == 29 and not seen & set(away)
        assert [len(part) for part in tested] == [4, 4, 1]
    assert held_out[0] == held_out[1]
    assert data.targets == ("theta_E",) and data.truth(torch.arange(2), "detectability") is None
    with pytest.raises(DataError, match="has 60 images, of which validation and test would hold out 44"):
        open_data(DataConfig(data=path), dataclasses.replace(validation, fit=25), 20, CPU)


def test_a_smaller_test_is_part_of_a_larger_one_whatever_the_sizes_of_the_validation(tmp_path):
    path = save(tmp_path / "a.npz", **good(60))
    sizes = [ValidationConfig(12, 10, 5, 3), ValidationConfig(10, 11, 9, 3), ValidationConfig(10, 10, 9, 3)]
    rows = [open_data(DataConfig(data=path), size, 20, CPU).test_index.tolist() for size in sizes]
    assert len(rows[0]) == 5 and rows[0] == rows[1][:5] and rows[1] == rows[2]


def test_the_fingerprint_is_of_the_bytes_of_images_and_labels(tmp_path):
    arrays = good()
    stored = read_stored(save(tmp_path / "a.npz", **arrays))
    expected = hashlib.sha256(arrays["image"].tobytes() + arrays["label"].astype(np.int64).tobytes()).hexdigest()
    assert stored.fingerprint == expected[:16]


def test_fewer_images_leave_what_is_held_out_as_it_is(tmp_path):
    path = save(tmp_path / "a.npz", **good(60))
    validation = ValidationConfig(fit=10, score=10, test=9, neighbours=3)
    whole, few = (open_data(DataConfig(data=path, images=images), validation, 7, CPU) for images in (None, 7))
    assert torch.equal(whole.score.index, few.score.index)
    batches = iter(few.source)
    assert len({row for _ in range(3) for row in next(batches).index.tolist()}) == 7
    assert few.identity["trained_on"] == 7 and "trained_on" not in whole.identity
    with pytest.raises(DataError, match=r"--images is 32; .* has 31 beside"):
        open_data(DataConfig(data=path, images=32), validation, 7, CPU)


def test_a_saved_benchmark_brings_its_transform_and_its_names(tmp_path):
    test = lensgen.benchmark("model_a", "train", 80, device="cpu", overrides={"grid.size": 16})
    path = test.save(tmp_path / "set.h5", progress=False)
    data = open_data(DataConfig(data=path), ValidationConfig(fit=10, score=10, test=10, neighbours=3), 8, CPU)
    assert data.transform.scale == pytest.approx(test.simulator.input_scale)
    assert data.class_names == ("no_sub", "cdm", "axion") and data.pixel_scale == pytest.approx(0.1)
    assert set(data.targets) == set(PROBED_PARAMETERS)  # and none of the other columns
    row = int(data.fit.index[0])
    torch.testing.assert_close(data.fit.image[0], test[row][0], rtol=0, atol=0)


def test_an_npz_says_as_arrays_what_an_hdf5_file_says_as_attributes(tmp_path):
    path = save(
        tmp_path / "a.npz", **good(), class_names=["no_sub", "cdm", "axion"], input_scale=[0.5], pixel_scale=0.1
    )
    stored = read_stored(path)
    assert stored.class_names == ("no_sub", "cdm", "axion") and stored.label_of("cdm") == 1
    assert stored.scale == (0.5,) and stored.pixel_scale == 0.1 and list(stored.params) == ["theta_E"]
    with pytest.raises(DataError, match=r"has no class axion, but class 0, .*an array of an \.npz file"):
        read_stored(save(tmp_path / "b.npz", **good())).label_of("axion")


@pytest.mark.parametrize(("name", "value"), [("input_scale", [-1.0]), ("pixel_scale", 0.0), ("class_names", ["a"])])
def test_attributes_that_make_no_sense_are_refused(tmp_path, name, value):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for column, values in good(12).items():
            file[column] = values
        file.attrs[name] = value
    with pytest.raises(DataError, match=name):
        read_stored(path)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    path = save(tmp_path / "a.npz", **good(12))
    first = read_stored(path)
    assert read_stored(path) is first
    save(path, **good(13))
    assert len(read_stored(path)) == 13


def test_columns_that_are_missing_for_some_or_the_same_for_all_are_not_probed(tmp_path):
    arrays = good(60)
    some = np.where(np.arange(60) % 3 == 0, arrays["theta_E"], np.nan)
    path = save(tmp_path / "a.npz", **arrays, mass=some, fixed=np.ones(60))
    data = open_data(DataConfig(data=path), ValidationConfig(fit=10, score=10, test=10, neighbours=3), 20, CPU)
    assert data.targets == ("theta_E",)
