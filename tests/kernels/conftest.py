"""Both fused engines, for one battery of tests: what they write begins as NaN."""

from __future__ import annotations

import pytest

from lensgen_kernels import cpu
from tests.kernels.emulated_cuda import emulator  # a fixture
from tests.kernels.emulation import COMPILER

__all__ = ["emulator"]


@pytest.fixture(params=["cpu", "cuda"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """ "cpu", "cpu_closed", or "cuda", "cuda_closed" in their emulation."""
    if request.param.startswith("cpu"):
        monkeypatch.setattr(cpu, "POISON", True)
    elif COMPILER is None:
        pytest.skip("no C++ compiler (g++ or c++) to emulate a GPU with")
    else:
        request.getfixturevalue("emulator")
    return request.param
