"""What the steps of the GPU report leave in their folder, read as plain numbers and lists."""

from __future__ import annotations

import csv
import json
import re
import statistics
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiles import small_render
from profiles.contenders import entries

Result = dict[str, Any]

ON_PRESETS = tuple(
    name
    for name in (f"{kind}, {engine}" for engine in ("cuda", "torch") for kind in ("LensStream", "Simulator.batch"))
    if name in entries()
)


def there(*names: str) -> list[str]:
    """Those of the contenders that this version has."""
    return [name for name in names if name in entries()]


def script(name: str) -> Callable[[Path], Result]:
    """Reads the JSON file of that name, and the page beside it as `text`; nothing, where there is none."""

    def read(folder: Path) -> Result:
        file, page = folder / f"{name}.json", folder / f"{name}.md"
        found = json.loads(file.read_text()) if file.exists() else {}
        if found and page.exists():
            found["text"] = page.read_text()
        return found

    return read


def tests(folder: Path) -> Result:
    """Counts of pytest's report, the names of what failed, and why how many were skipped."""
    file = folder / "tests.xml"
    if not file.exists():
        return {}
    suite = next(ET.parse(file).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = (case.find("skipped") for case in suite.iter("testcase"))
    reasons = Counter(s.get("message", "") for s in skipped if s is not None)
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    found = {"passed": passed, "failed": failed, "reasons": dict(reasons)}
    return {**counts, **found, "seconds": float(suite.get("time", 0.0))}


def mae(folder: Path) -> Result:
    """Speed of the second half of the steps, when everything is warm, the figures of validation, and the engines that
    lensgen said it took."""
    run = folder / "mae_run"
    if not (run / "train.csv").exists():
        return {}
    with (run / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    late = rows[len(rows) // 2 :]
    found: Result = {
        "steps": len(rows),
        "images_per_second": statistics.median(float(row["images_per_second"]) for row in late),
        "share_simulating": statistics.median(float(row["share_simulating"]) for row in late),
        "first_loss": float(rows[0]["loss"]),
        "last_loss": float(rows[-1]["loss"]),
        "engines": [],
    }
    if (log := folder / "mae.log").exists():
        said = re.findall(r"^lensgen: engine '(\w+)'", log.read_text(errors="replace"), re.MULTILINE)
        found["engines"] = sorted(set(said))
    if (run / "summary.json").exists():
        found["summary"] = json.loads((run / "summary.json").read_text())
    return found


def checker(step: str) -> Callable[[Path], Result]:
    """Errors that compute-sanitizer counted, and what was rendered meanwhile, by which engine, and whether as a CUDA
    graph. Without the tool there is no count."""

    def read(folder: Path) -> Result:
        file = folder / f"{step}.log"
        if not file.exists():
            return {}
        log = file.read_text(errors="replace")
        counts = re.findall(r"SUMMARY: (\d+) (?:errors?|hazards?)", log)
        rendered = re.findall(r"^rendered (.+)$", log.replace(small_render.END, ""), re.MULTILINE)
        # a tool that does not know the device lets the program run, or fail, and counts nothing
        counted = counts and rendered and "not supported" not in log
        return {
            "engine": next(iter(re.findall(r"^engine (\w+)$", log, re.MULTILINE)), None),
            "graph": small_render.GRAPH in log,
            "errors": max(map(int, counts)) if counted else None,
            "rendered": rendered,
            "complete": small_render.END in log,
            "said": [line for line in log.splitlines() if line.startswith("=========")][:40],
        }

    return read


def rates(engines: Result) -> dict[tuple[str, int, bool], dict[str, float]]:
    """(case, batch, noise) -> contender -> images a second."""
    return {
        (record["case"], record["batch"], record["noise"]): {
            o["contender"]: o["images_per_second"]["median"] for o in record["outcomes"] if not o["refused"]
        }
        for record in engines.get("records", [])
    }


def ratio(engines: Result, case: str, batch: int, noise: bool, ours: str, other: str) -> float | None:
    """How many times as fast, of runs of the same rounds; None where one of them was not timed."""
    for record in engines.get("records", []):
        if (record["case"], record["batch"], record["noise"]) == (case, batch, noise):
            found = record["times_as_fast_as"].get(other, {}).get(ours)
            return None if found is None else found["median"]
    return None
