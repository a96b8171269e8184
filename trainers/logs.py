"""Logs of a run: two CSV files and TensorBoard, resumable without a doubled or a lost row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Table:
    """A CSV file with a `step` column, appended to row by row.

    Args:
        path: the file; its header is made of the keys of the first row.
        up_to_step: rows of later steps are cut off: a resumed run writes them again.
    """

    def __init__(self, path: Path, up_to_step: int) -> None:
        self.path = path
        kept = [row for row in read_table(path) if int(row["step"]) <= up_to_step]
        self._columns: list[str] | None = None
        shorter = path.with_suffix(".tmp")
        self._file = shorter.open("w", newline="")
        self.append(kept)
        shorter.replace(path)  # the open file moves along, and a kill in between loses no row

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows and hands them to the operating system, so that a killed run keeps them."""
        if not rows:
            return
        writer = csv.DictWriter(self._file, self._columns or list(rows[0]))
        if self._file.tell() == 0:
            self._columns = list(rows[0])
            writer.writeheader()
        writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Logs:
    """`train.csv` (a row a step), `validation.csv` and TensorBoard of one run; for one rank alone."""

    def __init__(self, folder: Path, up_to_step: int) -> None:
        self._tables = {name: Table(folder / f"{name}.csv", up_to_step) for name in ("train", "validation")}
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=up_to_step + 1)

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Adds rows to the table `name`, `"train"` or `"validation"`."""
        self._tables[name].append(rows)
        for row in rows:
            for key, value in row.items():
                if key != "step":
                    self._board.add_scalar(f"{name}/{key}", value, row["step"])

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        self._board.close()


def read_table(path: Path) -> list[dict[str, str]]:
    """The whole rows of a CSV file, none if there is no file; a last row that a kill cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    with_end = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(with_end.splitlines()) if None not in row.values() and None not in row]


def validations(folder: Path | None) -> list[dict[str, float]]:
    """The figures of all validations of a run so far; none before it has a folder."""
    if folder is None or not (folder / "validation.csv").is_file():
        return []
    return [{name: float(value) for name, value in row.items()} for row in read_table(folder / "validation.csv")]


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file whole or not at all: a full disk or a kill leaves what was there before."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
