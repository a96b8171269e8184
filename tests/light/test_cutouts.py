"""Cutouts out of every layout of file, and out of broken ones; small files made here."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from astropy.io import fits

from lensgen.errors import DataError, LensgenError, ParameterError, PresetError, UnknownNameError
from lensgen.light import cutouts
from lensgen.light.cutouts import Cutouts, arrays_from, load_cutouts

RANDOM = np.random.default_rng(0)
GALAXIES = RANDOM.integers(1, 200, (12, 10, 8, 3)).astype(np.uint8)
CLASSES = np.arange(12) % 4
REDSHIFTS = np.linspace(0.0, 0.11, 12)


def normalised(images: np.ndarray) -> torch.Tensor:
    images = np.clip(images.astype(np.float64), 0.0, None)
    return torch.from_numpy(images / images.sum((-2, -1), keepdims=True)).float()


def same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.dtype == torch.float32 and ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.double().sum((1, 2)), torch.ones(len(ours)).double(), rtol=0, atol=1e-6)


def galaxy10(folder: Path, images: np.ndarray = GALAXIES) -> Path:
    """Galaxy10's layout."""
    with h5py.File(folder / "galaxies.h5", "w") as file:
        file["images"], file["ans"], file["redshift"] = images, CLASSES, REDSHIFTS
        file["names"] = np.array([f"g{k}" for k in range(12)], dtype="S")
        file["other"] = np.zeros((3, 3))
    return folder / "galaxies.h5"


def cosmos(folder: Path) -> tuple[Path, list[np.ndarray]]:
    """GalSim's RealGalaxy layout: three galaxies of different sizes in two files."""
    images = [RANDOM.random(shape).astype(np.float32) for shape in ((6, 7), (4, 4), (9, 5))]
    for name, members in (("first.fits", (0, 2)), ("second.fits", (1,))):
        units = [fits.ImageHDU(images[m]) if k > 0 else fits.PrimaryHDU(images[m]) for k, m in enumerate(members)]
        fits.HDUList(units).writeto(folder / name)
    columns = [
        fits.Column("IDENT", "J", array=[1001, 1002, 1003]),
        fits.Column("MAG", "D", array=[21.0, 22.5, 23.0]),
        fits.Column("GAL_FILENAME", "32A", array=["first.fits", "second.fits", "first.fits"]),
        fits.Column("GAL_HDU", "J", array=[0, 0, 1]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(folder / "real_galaxy_catalog.fits")
    return folder / "real_galaxy_catalog.fits", images


# --- layouts


def test_galaxy10(tmp_path):
    path = galaxy10(tmp_path)
    mean = GALAXIES.astype(np.float64).mean(3)
    same(load_cutouts(path), normalised(mean))
    same(load_cutouts(path, key="images", channel=1), normalised(GALAXIES[..., 1]))
    same(load_cutouts(path, select={"ans": 2}), normalised(mean[2::4]))
    same(load_cutouts(path, select={"ans": [0, 1], "redshift": {"min": 0.02, "below": 0.08}}), normalised(mean[[4, 5]]))
    same(load_cutouts(path, select={"redshift": {"max": 0.01}, "index": [11, 1, 0]}), normalised(mean[:2]))
    same(load_cutouts(path, select={"names": ["g3", "g7"]}), normalised(mean[[3, 7]]))


def test_arrays_and_cubes(tmp_path):
    images = RANDOM.random((4, 5, 6)) - 0.1  # some pixels are negative: they count as 0
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "one.npy", images[0])
    np.savez(tmp_path / "images.npz", a=images, b=images[:, :2])
    fits.writeto(tmp_path / "cube.fits", images.astype(np.float32))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(images[1], name="SCI")]).writeto(tmp_path / "one.fits.gz")
    same(load_cutouts(tmp_path / "images.npy"), normalised(images))
    same(load_cutouts(str(tmp_path / "images.npy"), select={"index": [0, 2]}), normalised(images[[0, 2]]))
    same(load_cutouts(tmp_path / "one.npy"), normalised(images[:1]))
    same(load_cutouts(tmp_path / "images.npz", key="b"), normalised(images[:, :2]))
    same(load_cutouts(tmp_path / "cube.fits", select={"index": 3}), normalised(images[3:].astype(np.float32)))
    same(load_cutouts(tmp_path / "one.fits.gz"), normalised(images[1:2]))
    same(load_cutouts(tmp_path / "one.fits.gz", key="SCI"), normalised(images[1:2]))


def test_scaled_integers_in_fits(tmp_path):
    unit = fits.PrimaryHDU(np.arange(40000, 40012, dtype=np.uint16).reshape(3, 4))  # stored with BZERO
    unit.writeto(tmp_path / "whole.fits")
    same(load_cutouts(tmp_path / "whole.fits"), normalised(unit.data[None]))


def test_a_folder_of_fits(tmp_path):
    for name, shape in (("b.fits", (3, 5)), ("a.fits", (4, 4))):
        fits.writeto(tmp_path / name, np.ones(shape))
    (tmp_path / "notes.txt").write_text("no image")
    images = load_cutouts(tmp_path)
    assert images.shape == (2, 4, 5)
    assert (images[0] > 0).sum(0).tolist() == [4, 4, 4, 4, 0]  # a.fits, its margin after it
    assert (images[1] > 0).sum(1).tolist() == [5, 5, 5, 0]


def test_cosmos(tmp_path):
    path, images = cosmos(tmp_path)
    all_ = load_cutouts(path)
    assert all_.shape == (3, 9, 7)
    for ours, image in zip(all_, images, strict=True):
        top, left = (9 - image.shape[0]) // 2, (7 - image.shape[1]) // 2
        inside = ours[top : top + image.shape[0], left : left + image.shape[1]]
        same(inside[None], normalised(image[None]))
    same(load_cutouts(path, select={"IDENT": [1002]}), normalised(images[1][None]))
    same(load_cutouts(path, select={"MAG": {"min": 22.5}}, size=4)[1:], normalised(images[2][None, 2:6, :4]))
    assert load_cutouts(path, select={"GAL_FILENAME": "first.fits"}).shape == (2, 9, 7)


def test_size_crops_and_pads_about_the_middle(tmp_path):
    image = np.zeros((7, 5))
    image[3, 2] = 2.0
    np.save(tmp_path / "one.npy", image)
    for size in (1, 3, 5, 7, 11):
        expected = torch.zeros(1, size, size)
        expected[0, size // 2, size // 2] = 1.0
        assert torch.equal(load_cutouts(tmp_path / "one.npy", size=size), expected)


def test_backgrounds(tmp_path):
    """Of 256 pixels, squares of 50: one corner alone, or all four."""
    image = np.full((256, 256), 5.0)
    image[:50, :50] = 2.0
    image[100:110, 100:110] = 105.0
    np.save(tmp_path / "one.npy", image)
    for background, value in (("none", 0.0), ("corner", 2.0), ("corners", 5.0)):
        same(load_cutouts(tmp_path / "one.npy", background=background), normalised(image[None] - value))


@pytest.mark.parametrize("unit", [1e-200, 1e-40, 1e30, 1e200])
def test_any_unit(tmp_path, unit):
    """What float32 cannot hold before it is divided by the sum."""
    images = RANDOM.random((2, 4, 4))
    np.save(tmp_path / "images.npy", images * unit)
    same(load_cutouts(tmp_path / "images.npy"), normalised(images))


# --- what is refused


def written(folder: Path, images: np.ndarray) -> Path:
    np.save(folder / "images.npy", images)
    return folder / "images.npy"


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"key": "nothing"}, DataError, r"there are no images 'nothing'. Fix: key = one of images, other"),
        ({"key": "ans"}, DataError, r"there are no images 'ans'"),
        ({"key": True}, PresetError, r"key = True must be the name or the number"),
        ({"select": {"answer": 6}}, UnknownNameError, r"unknown label of .*galaxies.h5 'answer'. Did you mean 'ans'"),
        ({"select": {"ans": 6}}, DataError, r"none of 12 images satisfies select = {'ans': 6}"),
        ({"select": {"ans": "spiral"}}, PresetError, r"select.ans: 'spiral' is no number"),
        ({"select": {"ans": {"above": 2}}}, PresetError, r"select.ans = {'above': 2}: bounds are min, max, below"),
        ({"select": {"names": {"min": 2}}}, PresetError, r"bounds are min, max, below, of labels that are numbers"),
        ({"select": 6}, PresetError, r"select = 6 must name labels"),
        ({"background": "corner_"}, UnknownNameError, r"unknown background 'corner_'. Did you mean 'corner'"),
        ({"size": 0}, ParameterError, r"size = 0 is outside \[1, 16384\]"),
        ({"size": 2.5}, ParameterError, r"size = 2.5 is no whole number"),
        ({"channel": 3}, ParameterError, r"channel = 3 is outside \[0, 2\]"),
        ({"key": "other", "channel": 0}, DataError, r"channel = 0, but the images have no channels: \[3, 3\]"),
        ({"key": "other"}, DataError, r"image 0 has no light"),
    ],
)
def test_options_that_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        load_cutouts(galaxy10(tmp_path), **options)


def test_images_without_light_are_named(tmp_path):
    images = np.ones((5, 4, 4))
    images[3] = -1.0
    with pytest.raises(DataError, match=r"images.npy: image 3 has no light"):
        load_cutouts(written(tmp_path, images))
    images[3] = 0.0
    images[3, 0, 0] = 1.0
    with pytest.raises(DataError, match=r"image 3 has no light.*within size"):
        load_cutouts(written(tmp_path, images), size=2)
    images[3, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"image 3 holds values that are not finite"):
        load_cutouts(written(tmp_path, images))
    assert len(load_cutouts(written(tmp_path, images), select={"index": [0, 1, 2, 4]})) == 4
    with pytest.raises(DataError, match=r"image 0 has no light"):
        load_cutouts(written(tmp_path, np.ones((5, 4, 4))), background="corners")


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 2), complex), np.ones((0, 4, 4)), np.ones((1, 1, 1, 1, 1))])
def test_arrays_that_are_no_images(tmp_path, array):
    with pytest.raises(DataError, match=r"images.npy: .* is no image: give numbers"):
        load_cutouts(written(tmp_path, array))


def test_too_many_pixels(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("images", (3, 1 << 20, 1 << 20), np.float32, chunks=(1, 64, 64))  # none of it is there
    with pytest.raises(DataError, match=r"huge.h5: 1048576 x 1048576 pixels are no cutout: at most 16384 a side"):
        load_cutouts(tmp_path / "huge.h5", size=8)
    monkeypatch.setattr(cutouts, "MOST_BYTES", 4 * 5 * 16 - 1)
    with pytest.raises(DataError, match=r"5 images of 4 x 4 pixels take more than .* Fix: select fewer"):
        load_cutouts(written(tmp_path, np.ones((5, 4, 4))))
    assert len(load_cutouts(tmp_path / "images.npy", size=3)) == 5


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.fits", "a.fits.gz", "a.h5", "a.png", "a"])
def test_files_that_are_something_else(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(DataError, match="is not there"):
        load_cutouts(path)
    for content in (b"", b"not what it says" * 500):
        path.write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_cutouts(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("suffix", ["npy", "fits", "h5"])
def test_files_that_are_cut_short(tmp_path, suffix):
    """Anywhere: an error that names the file, or the images as they were."""
    images = RANDOM.random((6, 40, 40))
    path = tmp_path / f"images.{suffix}"
    if suffix == "npy":
        np.save(path, images)
    elif suffix == "fits":
        fits.writeto(path, images)
    else:
        path = galaxy10(tmp_path)
    whole, content = load_cutouts(path), path.read_bytes()
    refused = 0
    for length in np.linspace(1, len(content) - 1, 15).astype(int):
        path.write_bytes(content[:length])
        try:
            assert torch.equal(load_cutouts(path), whole)
        except DataError as error:
            assert path.name in str(error)
            refused += 1
    assert refused >= 10


def test_pickles_are_not_run(tmp_path):
    np.save(tmp_path / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"images.npy cannot be read"):
        load_cutouts(tmp_path / "images.npy")


def test_catalogues_that_are_broken(tmp_path):
    path, _ = cosmos(tmp_path)
    (tmp_path / "second.fits").unlink()
    with pytest.raises(DataError, match=r"second.fits \(image 1 of .*real_galaxy_catalog.fits\) is not there"):
        load_cutouts(path)
    assert len(load_cutouts(path, select={"GAL_FILENAME": "first.fits"})) == 2
    fits.setval(path, "TFORM1", value="J", ext=1)
    with fits.open(path, mode="update") as units:
        units[1].data["GAL_HDU"][2] = 7
    with pytest.raises(DataError, match=r"first.fits \(image 2 of .*\): there is no image in extension 7"):
        load_cutouts(path, select={"GAL_FILENAME": "first.fits"})
    with fits.open(path, mode="update") as units:
        units[1].data["GAL_FILENAME"][0] = "../first.fits"
    with pytest.raises(DataError, match=r"GAL_FILENAME = '../first.fits' is no name of a file beside the catalogue"):
        load_cutouts(path)


def test_fits_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder holds no FITS file"):
        load_cutouts(tmp_path / "empty")
    table = fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])])
    table.writeto(tmp_path / "table.fits")
    with pytest.raises(DataError, match=r"table.fits: no extension holds an image"):
        load_cutouts(tmp_path / "table.fits")
    with pytest.raises(DataError, match=r"table.fits: there is no image in extension 1"):
        load_cutouts(tmp_path / "table.fits", key=1)
    fits.writeto(tmp_path / "empty" / "cube.fits", np.ones((2, 3, 3)))
    with pytest.raises(DataError, match=r"cube.fits .* holds \[2, 3, 3\], no image \[h, w\]"):
        load_cutouts(tmp_path / "empty")


# --- in presets


def test_arrays_of_a_preset(tmp_path):
    path = galaxy10(tmp_path)
    config = {"profile": "interpol", "amp": 1.0, "images": {"file": str(path), "select": {"ans": 2}, "size": 6}}
    made = arrays_from(config, "source")["images"]
    assert torch.equal(made.images, load_cutouts(path, select={"ans": 2}, size=6)) and len(made) == 3
    assert arrays_from(config, "source")["images"] is made  # read once
    assert made.on("cpu") is made.images


def test_the_fingerprint_follows_the_content(tmp_path):
    """Not the path: the same images elsewhere are the same, other pixels in the same place are not."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    configs = [{"images": {"file": str(galaxy10(folder))}} for folder in (one, other)]
    first, second = (arrays_from(c, "source")["images"] for c in configs)
    assert first == second and repr(first) == repr(second) and hash(first) == hash(second)
    assert first.digest in repr(first) and "tensor" not in repr(first)
    changed = GALAXIES.copy()
    changed[7, 3, 3, 0] += 1
    galaxy10(other, changed)
    third = arrays_from(configs[1], "source")["images"]
    assert third != second and repr(third) != repr(second)
    assert Cutouts.of(first.images.reshape(12, 8, 10)).digest != first.digest


@pytest.mark.parametrize(
    "images, error, message",
    [
        (None, PresetError, r"source.images = None must name a file"),
        ("galaxies.h5", PresetError, r"source.images = 'galaxies.h5' must name a file"),
        ({"key": "images"}, PresetError, r"source.images = {'key': 'images'} must name a file"),
        ({"file": 3}, PresetError, r"must name a file"),
        ({"file": "x.h5", "path": 1}, UnknownNameError, r"unknown field of source.images 'path'"),
        ({"file": "x.h5"}, DataError, r"x.h5 is not there"),
    ],
)
def test_presets_that_are_refused(images, error, message):
    with pytest.raises(error, match=message) as caught:
        arrays_from({"profile": "interpol", "images": images}, "source")
    assert isinstance(caught.value, LensgenError)
