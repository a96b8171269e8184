"""README's notebook example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_notebook_example_runs(monkeypatch) -> None:
    code = re.search(r"## In a notebook\n\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    seen: dict = {}
    exec(code.group(1), seen)
    assert seen["lens"].index.tolist() == [123_456_789]
    assert seen["batch"].image.shape == (64, 1, 64, 64) and torch.isfinite(seen["loss"])


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w/.-]+)\)", README))))
def test_what_it_points_at_is_there(path) -> None:
    assert (Path(__file__).parents[1] / path).exists()
