"""Lines of indented text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator


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
    def blocks(self, lines: Iterable[str]) -> Iterator[None]:
        """What is written inside is indented below those of the lines that end with a colon."""
        with contextlib.ExitStack() as stack:
            for line in lines:
                self.line(line)
                if line.endswith(":"):
                    stack.enter_context(self.nested())
            yield

    @contextlib.contextmanager
    def braces(self, head: str = "") -> Iterator[None]:
        """As `block`, in C: within braces after `head`."""
        with self.block(f"{head} {{".lstrip()):
            yield
        self.line("}")

    @contextlib.contextmanager
    def nested(self) -> Iterator[None]:
        """What is written inside is indented."""
        self._depth += 1
        yield
        self._depth -= 1

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
