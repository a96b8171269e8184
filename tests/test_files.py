"""Files of every kind, and what is wrong with some."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from astropy.io import fits

from lensgen.errors import DataError
from lensgen.files import pixel_scale, read_array

IMAGE = np.arange(12.0, dtype=np.float32).reshape(3, 4)


def write(path, array=IMAGE):
    """The array, and another one where the kind of file has room for it."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, first=array, second=2 * array)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["group/first"], file["second"] = array, 2 * array
    else:
        units = [fits.PrimaryHDU(), fits.ImageHDU(array, name="first"), fits.ImageHDU(2 * array, name="second")]
        fits.HDUList(units).writeto(path)
    return path


@pytest.mark.parametrize(
    "name, key",
    [("a.npy", None), ("a.npz", "first"), ("a.h5", "group/first"), ("a.h5", "/group/first"), ("a.fits", "FIRST"),
     ("a.fits", 1), ("a.fits", None), ("a.fits.gz", "first"), ("a.FITS", None)],
)  # fmt: skip
def test_every_kind_of_file(tmp_path, name, key) -> None:
    array = read_array(write(tmp_path / name), key)
    np.testing.assert_array_equal(array, IMAGE)
    assert array.dtype == np.float32 and array.dtype.isnative


@pytest.mark.parametrize("name, key", [("a.npz", "second"), ("a.h5", "second"), ("a.fits", 2), ("a.fits", "second")])
def test_the_array_that_is_named(tmp_path, name, key) -> None:
    np.testing.assert_array_equal(read_array(str(write(tmp_path / name)), key), 2 * IMAGE)


def test_the_only_array_needs_no_name(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", only=IMAGE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/down"] = np.array([1, 2], np.uint8)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz"), IMAGE)
    assert read_array(tmp_path / "a.h5").dtype == np.uint8


@pytest.mark.parametrize(
    "name, key, message",
    [
        ("a.npz", None, r"a.npz: there is not exactly one array. Fix: key = one of first, second"),
        ("a.npz", "third", r"there is no array 'third'. Fix: key = one of first, second"),
        ("a.h5", "first", r"there is no data set 'first'. Fix: key = one of group/first, second"),
        ("a.fits", 3, r"there is no extension 3. Fix: key = one of 0 \(PRIMARY\), 1 \(FIRST\)"),
        ("a.fits", "SCI", r"there is no extension 'SCI'"),
        ("a.fits", 0, r"extension 0 holds no image"),
        ("a.npy", "first", r"leave out key = 'first'"),
    ],
)
def test_keys_that_are_not_there(tmp_path, name, key, message) -> None:
    with pytest.raises(DataError, match=message):
        read_array(write(tmp_path / name), key)


def test_files_that_are_not_there_or_not_known(tmp_path) -> None:
    with pytest.raises(DataError, match=r"nowhere.fits is not there"):
        read_array(tmp_path / "nowhere.fits")
    with pytest.raises(DataError, match=r"nowhere.fits is not there"):
        pixel_scale(tmp_path / "nowhere.fits")
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"cannot tell what '.txt' files hold. Known: .fits"):
        read_array(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.fits"])
@pytest.mark.parametrize("content", [b"", b"not an array at all", b"\x93NUMPY\x01\x00"])
def test_files_that_are_something_else(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} cannot be read: .*Is it whole"):
        read_array(tmp_path / name)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("name, key", [("a.npy", None), ("a.npz", "first"), ("a.h5", "second"), ("a.fits", 1)])
def test_files_cut_short(tmp_path, name, key) -> None:
    path = write(tmp_path / name, np.random.default_rng(1).random((50, 60)))
    path.write_bytes(path.read_bytes()[: 11000 if name == "a.fits" else 9000])
    with pytest.raises(DataError, match=r"cannot be read"):
        read_array(path, key)


def test_pickles_are_refused(tmp_path) -> None:
    harmful = np.array([{"run": "me"}], dtype=object)
    np.save(tmp_path / "a.npy", harmful, allow_pickle=True)
    np.savez(tmp_path / "a.npz", harmful)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=r"Object arrays cannot be loaded when allow_pickle=False"):
            read_array(tmp_path / name)


@pytest.mark.parametrize("array", [np.array(["text"]), np.zeros((0, 3)), np.zeros(2, complex)])
def test_arrays_without_real_numbers(tmp_path, array) -> None:
    with pytest.raises(DataError, match=r"give real numbers, one at least"):
        read_array(write(tmp_path / "a.npy", array))


@pytest.mark.parametrize("name, key", [("a.npy", None), ("a.npz", "first"), ("a.h5", "second"), ("a.fits", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_reported(tmp_path, name, key, value) -> None:
    array = IMAGE.copy()
    array[1, 2:] = value
    with pytest.raises(DataError, match=rf"{name}: 2 of 12 values are not finite, the first at \[1, 2\]"):
        read_array(write(tmp_path / name, array), key)


@pytest.mark.parametrize(
    "header, expected",
    [
        ({"PIXSCALE": 0.0495}, 0.0495),
        ({"PIXELSCL": 0.031, "CDELT1": 1.0, "CDELT2": 1.0, "CUNIT1": "deg"}, 0.031),
        ({"CD1_1": -1e-5, "CD2_2": 1e-5}, 0.036),
        ({"CD1_1": 6e-6, "CD1_2": 8e-6, "CD2_1": -8e-6, "CD2_2": 6e-6}, 0.036),
        ({"CDELT1": -1e-5, "CDELT2": 1e-5, "CTYPE1": "RA---TAN"}, 0.036),
        ({"CDELT1": 0.05, "CDELT2": 0.05, "CUNIT1": "arcsec"}, 0.05),
        ({"CDELT1": 31.0, "CDELT2": 31.0, "CUNIT1": "mas"}, 0.031),
        ({"CDELT1": 2e-5, "CDELT2": 2e-5, "CTYPE1": "RA---TAN", "PC1_1": 0.5, "PC2_2": 0.5}, 0.036),
        ({"CDELT1": 1.0, "CDELT2": 1.0}, None),
        ({"CDELT1": 1.0, "CUNIT1": "Angstrom"}, None),
        ({}, None),
    ],
)
def test_pixel_scale_in_a_header(tmp_path, header, expected) -> None:
    unit = fits.PrimaryHDU(IMAGE)
    unit.header.update(header)
    unit.writeto(tmp_path / "a.fits")
    assert pixel_scale(tmp_path / "a.fits") == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_pixel_scale_of_another_extension(tmp_path) -> None:
    units = [fits.PrimaryHDU(IMAGE), fits.ImageHDU(IMAGE, name="fine")]
    for unit, scale in zip(units, (0.1, 0.025), strict=True):
        unit.header["PIXELSCL"] = scale
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    assert [pixel_scale(tmp_path / "a.fits", key) for key in (None, "fine")] == [0.1, 0.025]


def test_pixel_scale_is_none_where_files_state_none(tmp_path) -> None:
    assert pixel_scale(write(tmp_path / "a.npy")) is None


@pytest.mark.parametrize(
    "header, message",
    [
        ({"CD1_1": 1e-5, "CD2_2": 2e-5}, r"pixels of 0.036 x 0.072 arcsec are not square"),
        ({"PIXSCALE": 0.0}, r"PIXSCALE states pixels of 0.0 arcsec: give the pixel scale yourself"),
        ({"PIXSCALE": -1.0}, r"PIXSCALE states pixels of -1.0"),
    ],
)
def test_pixel_scales_that_cannot_be(tmp_path, header, message) -> None:
    unit = fits.PrimaryHDU(IMAGE)
    unit.header.update(header)
    unit.writeto(tmp_path / "a.fits")
    with pytest.raises(DataError, match=message):
        pixel_scale(tmp_path / "a.fits")


def test_damaged_compression_and_words_for_numbers(tmp_path) -> None:
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, a=np.arange(10_000.0))
    whole = bytearray(path.read_bytes())
    whole[200:400] = bytes(200)
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"cut.npz cannot be read"):
        read_array(path)
    image = fits.PrimaryHDU(np.ones((3, 3)))
    image.header["PIXELSCL"] = "abc"
    image.writeto(tmp_path / "words.fits")
    with pytest.raises(DataError, match=r"words.fits cannot be read"):
        pixel_scale(tmp_path / "words.fits")
