"""How learned k's are compared with true ones, of made-up maps."""

from types import SimpleNamespace

import pytest
import torch

from trainers import seeing

RADIUS = seeing._radius(torch.zeros(32, 32))
LENSES = SimpleNamespace(label=torch.tensor([0, 0, 1, 1, 1]))
DATA = SimpleNamespace(class_names=("no_sub", "cdm"))


@pytest.fixture
def compare(monkeypatch):
    """`compare(learned)` -> the correlations of k's `[5, 1, 32, 32]` with true ones, of which two are 1."""
    clumps = torch.randn(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    true = 1 + 0.01 * torch.where((LENSES.label == 1).view(-1, 1, 1, 1), clumps, 0.0)
    true = torch.where(RADIUS < seeing.MIDDLE, torch.nan, true)

    def of(learned):
        monkeypatch.setattr(seeing, "learned_and_true_k", lambda *_: (learned(true), true))
        return seeing.k_correlations(None, DATA, LENSES)

    return of


def test_a_right_k_correlates_with_its_own_lens_alone(compare):
    found = compare(lambda true: 3 * true + 5)
    assert found.own["no_sub"] is None and found.others["no_sub"] is None  # 1 everywhere
    assert found.own["cdm"] == pytest.approx(1) and abs(found.others["cdm"]) < 0.1


def test_a_wrong_theta_E_neither_helps_nor_harms(compare):
    halo = 0.3 / RADIUS.clamp(min=1)
    assert compare(lambda true: true + halo).own["cdm"] == pytest.approx(1, abs=0.01)
    alone = compare(lambda true: true.nan_to_num(1.0) * 0 + 1 + halo)
    assert abs(alone.own["cdm"]) < 0.1


def test_what_is_alike_in_all_lenses_correlates_with_others_too(monkeypatch, compare):
    shear = 0.01 * torch.cos(torch.arange(32) / 5).expand(32, 32)
    true = torch.where(RADIUS < seeing.MIDDLE, torch.nan, (1 + shear).expand(5, 1, 32, 32))
    monkeypatch.setattr(seeing, "learned_and_true_k", lambda *_: (true, true))
    found = seeing.k_correlations(None, DATA, LENSES)
    assert found.own == found.others == {"no_sub": pytest.approx(1), "cdm": pytest.approx(1)}
