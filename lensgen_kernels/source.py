"""Lines of indented text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Source:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is written inside is indented below `head`."""
        self.line(head)
        with self.nested():
            yield

    @contextlib.contextmanager
    def nested(self) -> Iterator[None]:
        """What is written inside is indented."""
        self._depth += 1
        yield
        self._depth -= 1

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
