"""The kernel that draws systems on a GPU, played by a CPU: every bit of what torch draws, in memory that held NaN."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from lensgen import checks, exact
from lensgen.draw import draw, draw_values
from lensgen.errors import ParameterError
from lensgen.fused_draw import CudaDrawer, Drawer, drawer
from lensgen.preset import Preset, load_preset
from lensgen.rng import SPLITS, RandomSource, name_hash, uniform_from_word
from lensgen.substructure.population import Drawn, Draws, Host, Population, nothing_enclosed, sum_slots
from lensgen_kernels import cuda, nvrtc, system_block
from lensgen_kernels.c_source import PRELUDE
from tests.every_preset import EVERY_PRESET
from tests.kernels import emulation
from tests.kernels.emulation import needs_compiler
from tests.kernels.test_cpu_draw import CHECKS, FAR, OVERRIDES, assert_same, draw_labels

INDEX = torch.cat((torch.arange(60), FAR))
LANES = (1, 2, 4, 8, 16, 32)
MOST_REGISTERS = 168  # of a thread: six blocks at once on a multiprocessor


class Played:
    """Stands for `cuda.Kernel`."""

    def __init__(self, text: str, checked: bool = False) -> None:
        self.text, self.checked, self.backwards = text, checked, False

    def launch(
        self, device: torch.device, grid: int, block: int, shared: int, args: Sequence[torch.Tensor | np.generic]
    ) -> None:
        kinds = {np.int32: ctypes.c_int, np.uint32: ctypes.c_uint}
        given = [a.numpy() if isinstance(a, torch.Tensor) else kinds[type(a)](a) for a in args]
        emulation.launch(self.text, "draw", grid, shared, given, backwards=self.backwards, checked=self.checked)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    monkeypatch.setattr(cuda, "POISON", True)


def played(preset: Preset, dtype=torch.float32, lanes: int | None = None, checked: bool = False) -> CudaDrawer:
    made = CudaDrawer(preset, dtype, lanes)
    made.kernel = Played(made.block.text, checked)
    return made


def expected(made: Drawer, random: RandomSource, index: torch.Tensor) -> dict[str, torch.Tensor]:
    """The rows, by torch."""
    rows = {
        array: torch.tensor([row], dtype=torch.float32 if array == "real" else torch.int64).repeat(len(index), 1)
        for array, row in made.rows.items()
    }
    places: list = []
    made.places.map(lambda _, place: places.append(place))
    order = iter(places)

    def write(_: str, values: torch.Tensor) -> None:
        place = next(order)
        rows[place.array][:, place.column : place.column + (place.slots or 1)] = values.view(len(index), -1)

    draw_values(made.preset, Draws(random, index), False).rounded(torch.float32).map(write)
    return rows


def assert_rows(made: CudaDrawer, random: RandomSource, index: torch.Tensor) -> None:
    theirs = expected(made, random, index)
    for made.kernel.backwards in (False, True):
        ours, bad = made.drawn(random, index)
        assert not bad.any()
        assert torch.equal(ours["real"].view(torch.int32), theirs["real"].view(torch.int32))
        assert torch.equal(ours["whole"], theirs["whole"])


@needs_compiler
@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_every_bit_of_every_preset(preset: str) -> None:
    made = played(load_preset(preset), checked=True)
    assert_rows(made, RandomSource(0), INDEX)
    for k, seed in enumerate((1, 2**32 - 1, 2**32, 2**62 - 1)):
        assert_rows(made, RandomSource(seed, SPLITS[k % 3]), INDEX[-9:].flip(0))
    assert_rows(made, RandomSource(5), INDEX[:1])


@needs_compiler
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(
    "preset",
    ["deeplense_ii_legacy", *(pytest.param(p, marks=pytest.mark.slow) for p in ("model_b", "model_a_physical"))],
)
def test_the_same_bits_on_any_number_of_lanes(preset: str, lanes: int) -> None:
    made = played(load_preset(preset), lanes=lanes, checked=True)
    assert made.block.lanes == lanes and made.block.shared_bytes < 48 * 1024
    assert_rows(made, RandomSource(7, "val"), INDEX[-12:])


@needs_compiler
@pytest.mark.parametrize(
    "changes",
    [pytest.param(c, id=n, marks=() if n == "every prior" else pytest.mark.slow) for n, c in OVERRIDES.items()],
)
def test_every_bit_of_changed_presets(changes) -> None:
    made = played(load_preset("model_a").override(changes), checked=True)
    assert_rows(made, RandomSource(7), INDEX)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_systems_are_those_of_torch(dtype) -> None:
    preset, random = load_preset("deeplense_ii_legacy"), RandomSource(3)
    made = played(preset, dtype)
    systems = made(random, INDEX)
    assert_same(systems, draw(preset, random, INDEX, dtype))
    whole_rows = 4 * len(made.rows["real"]) * len(INDEX)
    for value in (*systems.params.values(), *systems.exposure):  # a batch keeps these, and not whole rows with them
        assert value.untyped_storage().nbytes() < whole_rows / 4


@needs_compiler
def test_checks_that_fail_are_those_of_the_systems_they_are_about() -> None:
    preset = load_preset("model_a").override(CHECKS["too much substructure"])
    random, index = RandomSource(0), torch.arange(40)
    made = played(preset)
    _, bad = made.drawn(random, index)
    label = draw_labels(preset, random, index)
    assert torch.equal(bad, label == preset_class(preset, "axion"))
    with pytest.raises(ParameterError, match=r"at most 0.9 can be taken from the host"):
        made(random, index)
    with checks.postponed() as later:
        made(random, index)
        later.fetch()
    failure = later.failure()
    assert failure is not None and failure[0] == int(bad.nonzero()[0])
    assert "at most 0.9 can be taken from the host" in failure[1]
    assert_same(made(random, index[~bad]), draw(preset, random, index[~bad]))


def preset_class(preset: Preset, name: str) -> int:
    return list(preset.classes).index(name)


@needs_compiler
@pytest.mark.parametrize("lanes", [1, 8])
def test_more_calls_and_sums_than_there_is_room_for(lanes: int) -> None:
    """A ring of 100 points: calls are made in several shares; and 300 sums of six slots, in several loops."""

    @dataclass(frozen=True)
    class Ring(Population):
        name: ClassVar[str] = "ring"

        def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
            total = torch.zeros_like(host.theta_E)
            for k in range(100):
                total = total + exact.log(host.theta_E + (1.0 + k)) * 1e-6
            values = draws.uniforms(f"{prefix}.values", 6)
            count = torch.floor(host.theta_E * 4.0).clamp(max=6.0).to(torch.int64)
            for k in range(300):
                place = host.theta_E * (0.1 + k) + 0.5  # simple, and needed by slots alone
                total = total + sum_slots(values * place[:, None], count)
            return Drawn((), nothing_enclosed(host), {"total": total, "count": count.to(torch.float64)})

    preset = load_preset("deeplense_ii_legacy")
    object.__setattr__(preset, "classes", {"no_sub": preset.classes["no_sub"], "ring": Ring()})
    made, random = played(preset, lanes=lanes, checked=True), RandomSource(3)
    assert_rows(made, random, INDEX)
    assert made.block.text.count("double total") > 2
    assert expected(made, random, INDEX)["real"].any()


def test_lanes_follow_from_the_slots_of_the_fullest_system() -> None:
    assert [system_block.lanes_for(n) for n in (1, 7, 8, 31, 32, 56, 127, 128, 1250)] == [1, 1, 2, 4, 8, 8, 16, 32, 32]


def test_a_device_has_its_drawer() -> None:
    preset = load_preset("lenspinn")
    assert isinstance(drawer(preset, torch.float32, torch.device("cuda", 0)), CudaDrawer)
    assert not isinstance(drawer(preset, torch.float32), CudaDrawer)


# Random numbers

WORDS = """
LG_KERNEL(1) words(const unsigned int* names, const long long* index, int count, unsigned int key0, unsigned int key1,
                   float* narrow, double* wide) {
    for (int k = 0; k < count; k++) {
        const unsigned long long image = (unsigned long long)index[k];
        for (unsigned int position = 0; position < 8; position++)
            wide[8 * k + position] = lg_uniform(position, names[k], image, key0, key1);
        for (unsigned int block = 0; block < 2; block++) {
            const lg_word4 w = lg_words(block, names[k], image, key0, key1);
            const unsigned int four[4] = {w.w0, w.w1, w.w2, w.w3};
            for (int i = 0; i < 4; i++) narrow[8 * k + 4 * block + i] = lg_uniform_float(four[i]);
        }
    }
}
"""


@needs_compiler
@pytest.mark.parametrize(("seed", "split"), [(0, "train"), (2**62 - 1, "test"), (2**32 + 7, "val")])
def test_random_numbers_are_those_of_the_reference(seed: int, split: str) -> None:
    folder = Path(system_block.__file__).parent
    headers = [(folder / name).read_text() for name in ("block.h", "philox.h", "group.h")]
    text = "\n".join(["#define LG_THREADS 32\n#define LG_LANES 8", PRELUDE, *headers, WORDS])
    random, index = RandomSource(seed, split), INDEX
    names = [f"name {k}" for k in range(len(index))]
    wide, narrow = np.full((len(index), 8), np.nan), np.full((len(index), 8), np.nan, np.float32)
    hashes = np.array([name_hash(n) for n in names], np.uint32)
    keys = [ctypes.c_uint(k) for k in random.key]
    given = [hashes, index.numpy(), ctypes.c_int(len(index)), *keys, narrow, wide]
    emulation.launch(text, "words", 1, 0, given)
    reference = torch.cat([random.uniforms(i[None], n, 8) for i, n in zip(index, names, strict=True)])
    assert torch.equal(torch.from_numpy(wide), reference)
    assert torch.equal(torch.from_numpy(narrow).double(), reference)


@needs_compiler
def test_uniforms_of_the_extreme_words() -> None:
    folder = Path(system_block.__file__).parent
    kernel = "LG_KERNEL(1) ends(const unsigned int* w, float* f, double* d)"
    body = "{ for (int k = 0; k < 4; k++) { f[k] = lg_uniform_float(w[k]); d[k] = lg_uniform_double(w[k]); } }"
    headers = [(folder / name).read_text() for name in ("block.h", "philox.h")]
    text = "\n".join(["#define LG_THREADS 32", PRELUDE, *headers, kernel, body])
    words, narrow, wide = np.array([0, 511, 512, 2**32 - 1], np.uint32), np.zeros(4, np.float32), np.zeros(4)
    emulation.launch(text, "ends", 1, 0, [words, narrow, wide])
    reference = uniform_from_word(torch.from_numpy(words.astype(np.int64)))
    assert torch.equal(torch.from_numpy(wide), reference) and torch.equal(torch.from_numpy(narrow).double(), reference)
    assert 0.0 < wide[0] == wide[1] < wide[2] and wide[3] == 1.0 - 2.0**-24


# NVIDIA's compiler, which needs no GPU


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_nvrtc_compiles_it_without_spills(preset: str, arch: str) -> None:
    if (reason := nvrtc.available()) is not None:
        pytest.skip(reason)
    made = CudaDrawer(load_preset(preset), torch.float32)
    usage = nvrtc.compiled(made.block.text, arch, nvrtc.SYSTEM).usage["draw"]
    assert (usage.stack, usage.spill_stores, usage.spill_loads) == (0, 0, 0)
    assert usage.registers <= MOST_REGISTERS


# A GPU, where there is one


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_a_gpu_draws_every_bit(preset: str) -> None:
    index = torch.cat((torch.arange(3000), FAR))
    for k, (seed, lanes) in enumerate(((0, None), (2**62 - 1, 32), (2**32, 1))):
        made, random = CudaDrawer(load_preset(preset), torch.float32, lanes), RandomSource(seed, SPLITS[k])
        ours, bad = made.drawn(random, index.cuda())
        theirs = expected(made, random, index)
        assert not bad.any()
        assert torch.equal(ours["real"].cpu().view(torch.int32), theirs["real"].view(torch.int32))
        assert torch.equal(ours["whole"].cpu(), theirs["whole"])
