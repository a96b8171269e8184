"""Results on paper: JSON with every raw number, Markdown tables, and where both go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lensgen.errors import LensgenError, ParameterError
from profiles.timing import Spread

RESULTS = Path(__file__).parent / "results"
FORMAT = 1  # raised when the meaning of a field changes


def number(value: float, digits: int = 3) -> str:
    """Rounded to significant digits, with thousands separated: 12,300; 0.0123."""
    if value == 0.0 or value != value:
        return f"{value:g}"
    if abs(value) >= 10 ** (digits - 1):
        scale = 10 ** max(0, len(str(int(abs(value)))) - digits)
        return f"{round(value / scale) * scale:,}"
    return f"{value:.{digits}g}"


def place(settings: dict[str, Any]) -> str:
    """Where something was measured."""
    return "on a GPU" if settings["device"] == "cuda" else f"{settings['cores']} core(s)"


def left_out(content: dict[str, Any]) -> list[str]:
    """A paragraph on the parts that there was no time for, if there are any."""
    parts = content["settings"].get("left_out", [])
    return [f"Left out, as the time was over: {'; '.join(parts)}."] if parts else []


def with_spread(spread: Spread) -> str:
    """Median and extremes: 1,230 (1,200 to 1,250)."""
    return f"**{number(spread.median)}** ({number(spread.low)} to {number(spread.high)})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(out: Path, kind: str, content: dict[str, Any], text: str) -> Path:
    """Writes `out`.json and `out`.md, each whole or not at all; returns the JSON's path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    pages = {file: json.dumps({"format": FORMAT, "kind": kind, **content}, indent=1), out.with_suffix(".md"): text}
    for path, page in pages.items():
        part = path.with_name(path.name + ".part")
        part.write_text(page + "\n")
        part.replace(path)
    return file


def write(out: Path, kind: str, content: dict[str, Any], text: str) -> Path:
    """As `save`, and prints the text."""
    file = save(out, kind, content, text)
    print(text)
    return file


def where(out: Path | None, script: str) -> Path:
    """The place of a script's results, without a suffix; ParameterError if it is a folder."""
    place = RESULTS / script if out is None else out
    if place.is_dir():
        raise ParameterError(f"--out {place} is a folder: give a file's name without a suffix, e.g. {place / script}.")
    return place.with_suffix("") if place.suffix in (".json", ".md", ".png") else place


class Progress:
    """What is running and how long the rest will take, on stderr.

    Args:
        total: how many parts there are.
        budget: what has not begun by then is left out [s]; None: everything is done.

    Attributes:
        left_out: the parts that were.
    """

    def __init__(self, total: int, budget: float | None = None) -> None:
        self.total, self.done, self.begin = total, 0, time.monotonic()
        self.budget, self.left_out = budget, list[str]()
        self._last, self._least = self.begin, 0.0  # when a part began; how long the shortest one was

    def leaves_out(self, what: str) -> bool:
        """Whether there is no time for one more part, as long as the shortest was; else it is announced as begun.

        The first does not count: it also starts processes, and compiles.
        """
        now = time.monotonic()
        if self.done > 1:
            self._least = min(self._least or now - self._last, now - self._last)
        if self.budget is not None and now - self.begin + self._least > self.budget:
            self.left_out.append(what)
            return True
        self._last = now
        self(what)
        return False

    def __call__(self, what: str) -> None:
        """Called when a part begins."""
        spent = time.monotonic() - self.begin
        left = "" if self.done == 0 else f", about {spent / self.done * (self.total - self.done) / 60:.1f} min left"
        self.done += 1
        print(f"[{self.done}/{self.total}, {spent:.0f} s{left}] {what}", file=sys.stderr, flush=True)


def run(main: Any) -> None:
    """Runs a script; its own errors end it with a message and status 2."""
    try:
        main()
    except LensgenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def note(what: str) -> None:
    """A detail of the part that is running, on stderr."""
    print(f"    {what}", file=sys.stderr, flush=True)
