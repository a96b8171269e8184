"""Checks of what was simulated: at once, or postponed until a device has done its work."""

from __future__ import annotations

import pytest
import torch

from lensgen import checks
from lensgen.errors import ParameterError


def test_a_check_at_once() -> None:
    checks.require(torch.tensor([False, False]), lambda k: "never")
    with pytest.raises(ParameterError, match="image 1"):
        checks.require(torch.tensor([False, True, True]), lambda k: f"image {k}")


def test_checks_that_are_postponed() -> None:
    with checks.postponed() as later:
        checks.require(torch.tensor([False, False]), lambda k: "never")
        checks.require(torch.tensor([False, False]), lambda k: "never")
        checks.advance(2)
        checks.require(torch.tensor([False, True, True]), lambda k: f"number {k}")
        checks.advance(3)
        checks.require(torch.tensor([True]), lambda k: "later")
        with checks.postponed() as inner:
            checks.require(torch.tensor([True]), lambda k: "inner")
    assert later.failure() is None  # not fetched
    later.fetch()
    inner.fetch()
    assert later.failure() == (3, "number 1") and inner.failure() == (0, "inner")
    with pytest.raises(ParameterError, match="at once"):
        checks.require(torch.tensor([True]), lambda k: "at once")


def test_nothing_to_check() -> None:
    with checks.postponed() as later:
        pass
    later.fetch()
    assert later.failure() is None


def test_a_reason_that_is_found_by_doing_it_again() -> None:
    def again(position: int) -> str:
        raise ParameterError(f"position {position} is out of range")

    with checks.postponed() as later:
        checks.require(torch.tensor([True]), again)
    later.fetch()
    assert later.failure() == (0, "position 0 is out of range")
