"""profiles.far_field from end to end at its smallest."""

from __future__ import annotations

import json

import pytest

from lensgen import fused
from profiles import far_field


@pytest.mark.slow
def test_far_field(tmp_path, capsys):
    """Its ways are what they say: only one differs from the tables, and none is left switched on."""
    before, out = fused.MANY, tmp_path / "result"
    far_field.main(["--quick", "--out", str(out)])
    content = json.loads(out.with_suffix(".json").read_text())
    off = {record["contender"]: record["off"] for record in content["records"]}
    assert list(off) == ["far field", "tables", "closed form"]
    assert 0.0 < off["far field"][1] < 1e-5 and off["far field"] != off["tables"] and off["closed form"] == [0.0, 0.0]
    assert out.with_suffix(".png").stat().st_size > 1000
    assert capsys.readouterr().out.strip() == out.with_suffix(".md").read_text().strip()
    assert before == fused.MANY
