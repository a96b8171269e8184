"""What is aimed at on a GPU, beside what was found: met, missed or not measured.

Nothing is met by another engine than "cuda": what did not say that it ran there was not measured.

Speeds are aimed at for one processor alone, that of an H200: its limits, in instructions issued and special functions a
second, were worked out from compiled code. On other cards the figure stands by itself.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from profiles import gpu_results
from profiles.card import has_the_limits
from profiles.steps import Outcome

Results = dict[str, dict[str, Any]]  # of the steps, by name

MET, MISSED, NOT_MEASURED, NOT_JUDGED = "met", "missed", "not measured", "not judged on this card"
# case -> what 100 % of the processor's issue or special-function rate allows, images/s: 64x64, one ray, PSF and noise
LIMITS = {"sie": 48e6, "25 points": 22e6, "25 tnfw": 16e6, "rod": 39e6}
_LARGE, _SMALL = 2048, 256
OURS = ("lensgen cuda", "lensgen cuda, graph")
MOST_REGISTERS = 64
CHECKERS = {
    "memcheck": "compute-sanitizer, memcheck",
    "racecheck": "compute-sanitizer, racecheck",
    "memcheck_graph": "compute-sanitizer, memcheck, batches of a CUDA graph",
}
_NO_KERNELS = re.compile(r"cupy|nvrtc|cuda-bindings|kernels cannot run", re.IGNORECASE)  # in why a test was skipped


@dataclass(frozen=True)
class Target:
    """One line.

    Args:
        what, aim, found: for people.
        verdict: MET, MISSED, NOT_MEASURED or NOT_JUDGED.
    """

    what: str
    aim: str
    found: str
    verdict: str


def _million(rate: float) -> str:
    return f"{rate / 1e6:.3g} million/s"


def _speed(results: Results, what: str, case: str, batch: int, least: float, note: str) -> Target:
    rates = gpu_results.rates(results.get("engines", {})).get((case, batch, True), {})
    ours = {name: rates[name] for name in OURS if name in rates}
    judged = has_the_limits(results.get("card", {}))
    aim = f"{_million(least)}{note}" if judged else "(of an H200 alone)"
    if not ours:
        return Target(what, aim, "", NOT_MEASURED)
    best = max(ours, key=ours.__getitem__)
    verdict = (MET if ours[best] >= least else MISSED) if judged else NOT_JUDGED
    return Target(what, aim, f"{_million(ours[best])} ({best})", verdict)


def _speeds(results: Results) -> list[Target]:
    found = [
        _speed(
            results, f"{case}, batch {_LARGE:,}, PSF and noise", case, _LARGE, limit / 2, f", half of {_million(limit)}"
        )
        for case, limit in LIMITS.items()
    ]
    return [*found, _speed(results, f"sie, batch {_SMALL}, PSF and noise", "sie", _SMALL, 8e6, "")]


def _ratios(results: Results) -> list[Target]:
    """The same against others on the same card: no figure is aimed at, but all must have been measured."""
    engines, found = results.get("engines", {}), []
    for other in ("caustics, compiled", "caustics", "lensgen torch"):
        noise = other == "lensgen torch"
        cases = dict.fromkeys(r["case"] for r in engines.get("records", []) if r["noise"] == noise)
        ratios = {c: gpu_results.ratio(engines, c, _LARGE, noise, OURS[0], other) for c in cases}
        shown = ", ".join(f"{case} {ratio:,.3g}" for case, ratio in ratios.items() if ratio is not None)
        found.append(Target(f"times as fast as {other}", "a figure", shown, MET if shown else NOT_MEASURED))
    return found


def _by_kernels(result: dict[str, Any]) -> bool:
    """Whether a script says that it ran engine "cuda" on a GPU."""
    settings = result.get("settings", {})
    return (settings.get("device"), settings.get("engine")) == ("cuda", "cuda")


def _wait(results: Results) -> list[Target]:
    result = results.get("overlap", {}).get("result", {})
    share = result.get("share_waiting", {}).get("streamed ahead", {}).get("median")
    what, aim = "wait for images, ViT-S MAE step, 64x64 (overlap)", "under 2 %"
    if share is None or not _by_kernels(results["overlap"]):
        overlap = Target(what, aim, "", NOT_MEASURED)
    else:
        slower = result["slower_than_resident"]["streamed ahead"]["median"]
        shown = f"{share:.2%}; a step takes {slower:.3f} times one on images that are there already"
        overlap = Target(what, aim, shown, MET if share < 0.02 else MISSED)
    mae = results.get("mae", {})
    what = "wait for images, trainers.mae"
    on_gpu = mae.get("summary", {}).get("device", "cuda") != "cpu" and mae.get("engines") == ["cuda"]
    if "share_simulating" not in mae or not on_gpu:
        return [overlap, Target(what, aim, "", NOT_MEASURED)]
    waits, speed = mae["share_simulating"], mae["images_per_second"]
    return [overlap, Target(what, aim, f"{waits:.2%} at {speed:,.0f} images/s", MET if waits < 0.02 else MISSED)]


def _checks(results: Results, quick: bool) -> list[Target]:
    found = []
    for step, what in CHECKERS.items():
        result = results.get(step, {})
        if result.get("errors") is None or result.get("engine") != "cuda" or quick:
            found.append(Target(what, "no errors", "", NOT_MEASURED))
            continue
        if step == "memcheck_graph" and not result["graph"]:
            found.append(Target(what, "no errors", "no graph was recorded", NOT_MEASURED))
            continue
        shown = f"{result['errors']} errors in {len(result['rendered'])} kinds of images"
        shown += "" if result["complete"] else ", not all of them"
        found.append(Target(what, "no errors", shown, MISSED if result["errors"] else MET))
    return found


def _drawn(results: Results) -> Target:
    what, aim = "drawn numbers equal to the CPU's, bit for bit", "1e8, all"
    result = results.get("draws", {}).get("result")
    if result is None or not _by_kernels(results["draws"]):
        return Target(what, aim, "", NOT_MEASURED)
    shown = f"{result['numbers']:,}, of which {result['different']:,} differ"
    if result["different"]:
        return Target(what, aim, shown, MISSED)
    return Target(what, aim, shown, MET if result["numbers"] >= 1e8 else f"{MISSED}: too few")


def _tests(results: Results) -> Target:
    result = results.get("tests", {})
    if not result.get("passed"):
        verdict = MISSED if result.get("failed") else NOT_MEASURED
        shown = f"{len(result['failed'])} failed" if result.get("failed") else ""
        return Target("GPU tests", "all pass", shown, verdict)
    shown = f"{result['passed']} passed, {len(result['failed'])} failed, {result['skipped']} skipped"
    without = {why: count for why, count in result["reasons"].items() if _NO_KERNELS.search(why)}
    if without:
        shown += f", {sum(without.values())} of them as there are no kernels: {next(iter(without))}"
    verdict = MISSED if result["failed"] else NOT_MEASURED if without else MET
    return Target("GPU tests", "all pass", shown, verdict)


def _registers(results: Results, quick: bool) -> Target:
    what = "kernels of all presets"
    aim = f"no spills, at most {MOST_REGISTERS} registers for images"
    records = results.get("registers", {}).get("records", [])
    measured = [r for r in records if not r["refused"]]
    if not measured or quick:  # which is of one preset
        return Target(what, aim, "", NOT_MEASURED)
    most = max((r["registers"] for r in measured if r["kernel"].startswith("image")), default=0)
    spilled = sorted({r["preset"] for r in measured if r["spill_stores"] + r["spill_loads"] > 0})
    shown = f"{len(measured)} of {len(records)} kernels, at most {most} registers for images, " + (
        f"spills in {', '.join(spilled)}" if spilled else "no spills"
    )
    verdict = MET if not spilled and most <= MOST_REGISTERS and len(measured) == len(records) else MISSED
    return Target(what, aim, shown, verdict)


def targets(outcomes: list[Outcome], quick: bool) -> list[dict[str, str]]:
    """All lines, as JSON can hold them."""
    results = {outcome.name: outcome.result for outcome in outcomes}
    lines = [_tests(results), *_speeds(results), *_ratios(results), *_wait(results), *_checks(results, quick)]
    return [asdict(line) for line in (*lines, _drawn(results), _registers(results, quick))]
