"""Kernels of twins and of one class: the random numbers that torch has, drawn by a CPU's and by a GPU's kernel."""

from __future__ import annotations

import pytest
import torch

from lensgen import Simulator
from lensgen.errors import ParameterError
from lensgen.fused_draw import CpuDrawer, CudaDrawer, Drawer
from lensgen.rng import RandomSource
from lensgen.twins import ORIGINAL
from lensgen_kernels import cuda
from tests.kernels.emulation import needs_compiler
from tests.kernels.test_cpu_draw import FAR, assert_same
from tests.kernels.test_system_block import Played

INDEX = torch.cat((torch.arange(60), FAR))
CASES = {
    "twin": ("model_a", ORIGINAL.twin("source", "substructure", "exposure", number=2), None),
    "class": ("deeplense_iv_legacy_macro", ORIGINAL, "cdm"),  # where each has a lens of its own
    "twin of a class": ("deeplense_iv_legacy_macro", ORIGINAL.twin("lens"), "axion"),
}


def drawer(made: Simulator, on_gpu: bool, monkeypatch) -> Drawer:
    number = None if made.label is None else made.class_names.index(made.label)
    if not on_gpu:
        return CpuDrawer(made.preset, torch.float32, made.random.twin, number)
    monkeypatch.setattr(cuda, "POISON", True)
    played = CudaDrawer(made.preset, torch.float32, twin=made.random.twin, label=number)
    played.kernel = Played(played.block.text)  # type: ignore[assignment]
    return played


@pytest.mark.parametrize("on_gpu", [False, pytest.param(True, marks=needs_compiler)], ids=["cpu", "cuda"])
@pytest.mark.parametrize("preset, twin, label", CASES.values(), ids=CASES)
def test_every_bit_of_a_twin_and_of_a_class(preset, twin, label, on_gpu, monkeypatch) -> None:
    made = Simulator(preset, 3, "cpu", "torch", label=label)
    made.random = RandomSource(3, twin=twin)
    assert_same(drawer(made, on_gpu, monkeypatch)(made.random, INDEX), made.systems(INDEX))


def test_a_drawer_of_another_twin_is_refused() -> None:
    made = CpuDrawer(Simulator("deeplense_ii_legacy").preset, torch.float32)
    with pytest.raises(ParameterError, match=r"the random numbers are of Twin\(.*'source', 1.*make another"):
        made(RandomSource(0, twin=ORIGINAL.twin("source")), INDEX)


def test_pixels_of_a_twin_by_every_engine(engine: str) -> None:
    """The noise of each kernel is the twin's, too."""
    made = Simulator("model_a", 5, "cpu", "torch").override({"grid.size": 12})
    fused = Simulator(made.preset, 5, "cpu", engine)
    original = fused.batch(0, 6)
    for parts in (("noise",), ("source",), ("source", "noise")):
        ours, theirs = (s.twin(*parts).batch(0, 6) for s in (fused, made))
        assert all(torch.equal(ours.params[name], theirs.params[name]) for name in theirs.params)
        peak = theirs.image.flatten(1).amax(1).view(-1, 1, 1, 1)
        near = ((ours.image - theirs.image).abs() / peak) < 1e-4
        assert float(near.double().mean()) > 0.99  # in the others a count rounds the other way
        same = ours.image == original.image
        assert float(same.double().mean()) < 0.2
    again = fused.batch(0, 6)
    assert torch.equal(again.image, original.image)
