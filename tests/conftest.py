"""What all tests share: stable hypothesis examples, and the record of how far each tolerance was used up.

`pytest --gates` prints, for each named gate, the worst value that was measured beside what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

# derandomize: the same examples on every run, so that a red build means a changed program
settings.register_profile(
    "stable",
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking a failure of a numerical test takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", parent=settings.get_profile("stable"), derandomize=False, max_examples=300)
settings.load_profile("stable")  # `--hypothesis-profile=search` looks for new examples

_WORST: dict[str, tuple[float, float]] = {}


@pytest.fixture(scope="session")
def gate() -> Callable[[str, float, float], None]:
    """gate(row, measured, allowed): assert measured <= allowed, and remember the worst of each row."""

    def check(row: str, measured: float, allowed: float) -> None:
        measured = float(torch.as_tensor(measured).detach())
        worst = _WORST.get(row, (0.0, allowed))[0]
        _WORST[row] = (max(worst, measured) if measured == measured else measured, allowed)
        assert measured <= allowed, f"{row}: measured {measured:.3g}, allowed {allowed:.3g}"

    return check


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gates", action="store_true", help="print the worst measured value of each tolerance")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--gates") and _WORST:
        terminalreporter.section("tolerances")
        for row, (measured, allowed) in sorted(_WORST.items()):
            terminalreporter.write_line(f"{row:<60} {measured:9.2e}  of {allowed:7.1e}")
