"""Random numbers: Random123's known answers, an independent Philox, and that nothing but the key matters."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from lensgen import Simulator
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.rng import MAX_SEED, SPLITS, RandomSource, name_hash, philox4x32, uniform_from_word

# Random123 1.14, kat_vectors: philox4x32 10
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def plain_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 with Python's unbounded integers, after the paper's section 4.3."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


@pytest.mark.parametrize("counter, key, answer", KNOWN.values(), ids=KNOWN)
def test_random123_known_answers(counter, key, answer) -> None:
    words = philox4x32(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in words) == answer
    assert plain_philox(counter, key) == answer


def test_agrees_with_plain_python() -> None:
    generator = torch.Generator().manual_seed(1)
    counters = torch.randint(0, 2**32, (4, 200), generator=generator)
    key = (0xDEADBEEF, 0x12345678)
    words = torch.stack(philox4x32(tuple(counters), key), -1)
    assert words.tolist() == [list(plain_philox(tuple(c), key)) for c in counters.T.tolist()]


@pytest.mark.parametrize("index", [0, 1, 2**31, 2**32 - 1, 2**32, 123_456_789, 2**62 + 5, 2**63 - 1])
@pytest.mark.parametrize("split", SPLITS)
def test_counter_and_key_hold_what_the_docs_say(index: int, split: str) -> None:
    """Word 4 b + j of (seed, split, index, name) is word j of counter (b, hash, index), key (seed, split)."""
    seed = 2**40 + 17
    got = RandomSource(seed, split).words(torch.tensor([index]), "lens.theta_E", 9)[0].tolist()
    key = (seed % 2**32, SPLITS.index(split) * 2**30 + seed // 2**32)
    expected = []
    for block in range(3):
        counter = (block, name_hash("lens.theta_E"), index % 2**32, index // 2**32)
        expected += plain_philox(counter, key)
    assert got == expected[:9]


def test_no_two_keys_share_a_number() -> None:
    """Seeds, splits, names and indices that differ in any bit give unrelated words."""
    seen: set[tuple[int, ...]] = set()
    index = torch.tensor([0, 1, 2**32, 2**33, 2**63 - 1])
    sources = [RandomSource(s, split) for s in (0, 1, 2**31, 2**32, MAX_SEED) for split in SPLITS]
    for source in sources:
        for name in ("lens.theta_E", "lens.gamma", "noise.shot", "noise.read"):
            seen |= {tuple(words) for words in source.words(index, name, 2).tolist()}
    assert len(seen) == len(sources) * 4 * len(index)


def test_value_does_not_depend_on_batch_order_or_count() -> None:
    source = RandomSource(3)
    index = torch.arange(100)
    whole = source.words(index, "a", 13)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(source.words(order, "a", 13), whole[order])
    assert torch.equal(torch.cat([source.words(index[i : i + 1], "a", 13) for i in range(100)]), whole)
    for count in (1, 3, 4, 5, 12):
        assert torch.equal(source.words(index, "a", count), whole[:, :count])


def test_names_of_a_preset_have_hashes_of_their_own() -> None:
    names = {
        f"{part}.{field}"
        for part in ("lens", "shear", "source", "substructure.cdm", "substructure.axion")
        for field in [
            "theta_E",
            "gamma",
            "q",
            "phi",
            "e1",
            "e2",
            "center_x",
            "center_y",
            "gamma_ext",
            "psi_ext",
            "magnitude",
            "amp",
            "R_sersic",
            "n_sersic",
            "count",
            "mass",
            "radius",
            "angle",
            "axion_mass",
            "concentration",
            "tau",
        ]
    } | {"class", "redshift.lens", "redshift.source", "noise.exposure_time", "noise.shot", "noise.read"}
    assert len({name_hash(n) for n in names}) == len(names)


def test_uniforms_are_open_and_exact_in_float32() -> None:
    u = uniform_from_word(torch.tensor([0, 0x1FF, 0x200, 0xFFFFFFFF]))
    assert u.tolist() == [2.0**-24, 2.0**-24, 3 * 2.0**-24, 1 - 2.0**-24]
    many = RandomSource(0).uniforms(torch.arange(20_000), "u", 5)
    assert torch.equal(many.float().double(), many)
    assert float(many.min()) > 0.0 and float(many.float().max()) < 1.0


@pytest.mark.parametrize("along", ["index", "slot", "seed", "name"])
def test_uniform_along_every_axis(along: str) -> None:
    if along == "index":
        u = RandomSource(5).uniforms(torch.arange(20_000), "u", 1)
    elif along == "slot":
        u = RandomSource(5).uniforms(torch.tensor([9]), "u", 20_000)
    elif along == "seed":
        u = torch.cat([RandomSource(s).uniforms(torch.tensor([9]), "u", 1) for s in range(2_000)])
    else:
        u = torch.cat([RandomSource(5).uniforms(torch.tensor([9]), f"u{n}", 1) for n in range(2_000)])
    u = u.flatten().numpy()
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3
    shifted = scipy.stats.pearsonr(u[:-1], u[1:])
    assert shifted.pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**70])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ParameterError, match=r"seed = .* is outside \[0, 4611686018427387903\]"):
        RandomSource(seed)


@pytest.mark.parametrize("seed", [1.5, True, "7", None])
def test_seed_of_a_wrong_kind(seed) -> None:
    with pytest.raises(ParameterError, match=r"seed = .*whole number"):
        RandomSource(seed)


def test_unknown_split() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown split 'trian'. Did you mean 'train'"):
        RandomSource(0, "trian")


# The raw words behind image 123,456,789 of seed 7: from `plain_philox`, so of no library
RECORDED_WORDS = {
    "lens.theta_E": [0x3F76AA82, 0xD2A3776F, 0x872ED69D],
    "source.center_x": [0xBAA628F8, 0x9622C0A1, 0xF884E904],
    "noise.shot": [0x380CA9AE, 0x8E126FCC, 0x3DC9313F],
}


@pytest.mark.parametrize("name", RECORDED_WORDS)
def test_recorded_words(name: str) -> None:
    assert RandomSource(7).words(torch.tensor([123_456_789]), name, 3)[0].tolist() == RECORDED_WORDS[name]


# Recorded with lensgen 0.1.0: an image made again from (preset, seed, index) must be the same system for ever.
# The maps from uniforms are held here, not model_a's own numbers, so that its distributions may be changed.
RECORDED_PRIORS = {
    "lens.theta_E": (
        {"truncated_normal": {"mean": 1.2, "sigma": 0.25, "low": 0.7, "high": 1.8}},
        "0x1.0a9cd6a1e72bap+0",
    ),
    "lens.phi": ("direction", "0x1.4c9cd022c1c41p+2"),
    "source.R_sersic": ({"log_uniform": {"low": 0.12, "high": 0.4}}, "0x1.1be015185f20bp-2"),
    "substructure.cdm.mass": ({"power_law": {"slope": -1.9, "low": 1e8, "high": 1e10}}, "0x1.fc8007ed9bce5p+27"),
    "substructure.cdm.count": ({"poisson": {"mean": 25}}, "0x1.f000000000000p+4"),
}


@pytest.mark.parametrize("name", RECORDED_PRIORS)
def test_recorded_values(name: str) -> None:
    from lensgen.priors import prior_from

    prior, value = RECORDED_PRIORS[name]
    u = RandomSource(7).uniforms(torch.tensor([123_456_789]), name, 1)
    assert prior_from(prior, name).sample(u).item().hex() == value


def test_an_image_of_model_a_is_recorded() -> None:
    """Parameters of image 123,456,789 of seed 7. If model_a's distributions were changed on purpose, record again."""
    params = Simulator("model_a", seed=7, device="cpu").batch(indices=torch.tensor([123_456_789])).params
    assert {k: params[k].item().hex() for k in RECORDED_PARAMETERS} == RECORDED_PARAMETERS


RECORDED_PARAMETERS: dict[str, str] = {
    "lens.theta_E": "0x1.0a9cd60000000p+0",
    "lens.gamma": "0x1.02d32c0000000p+1",
    "lens.e1": "-0x1.e0c6bc0000000p-6",
    "shear.gamma2": "0x1.c1bd7c0000000p-7",
    "source.magnitude": "0x1.640af20000000p+4",
    "source.amp": "0x1.3a15e00000000p+3",
    "source.center_x": "0x1.da3d820000000p-4",
    "redshift.source": "0x1.536f320000000p+0",
    "noise.total_exposure": "0x1.7cc5ce0000000p+10",
}
