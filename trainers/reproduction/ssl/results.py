"""Runs that begin with an encoder beside those from scratch, and what a table shows of rows not reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.reproduction.runs import Run, finished
from trainers.reproduction.ssl.names import scratch_folder, task_folder

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol


def beside_scratch(
    root: Path, protocol: SSLProtocol, task: str, place: tuple[str, str], method: str, seeds: int
) -> tuple[list[Run], list[Run]]:
    """Runs of a task that begin with a method's encoder, and the same from scratch: of seeds of which both are done.

    Args:
        task: "classify" or "regress".
        place: data and encoder.
    """
    augmentation = protocol.augmentation(task, method)
    names = [
        (task_folder(*place, seed, method, task), scratch_folder(*place, seed, augmentation, task))
        for seed in range(seeds)
    ]
    pairs = [(*finished(root, [one]), *finished(root, [other])) for one, other in names]
    both = [pair for pair in pairs if len(pair) == 2]
    return [pair[0] for pair in both], [pair[1] for pair in both]


def shown(rows: Sequence[Mapping[str, Any]], by: Sequence[str] = ("data", "encoder")) -> list[Mapping[str, Any]]:
    """`rows` for a table: where none of those that are alike in `by` was reached, one row stands for all methods."""
    lines: list[Mapping[str, Any]] = []
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    for group in groups.values():
        reached = any(row["seeds"] for row in group)
        lines += group if reached else [{**group[0], "method": "all", "paper": {}}]
    return lines
