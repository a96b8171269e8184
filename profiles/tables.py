"""The records of profiles.throughput as Markdown."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from profiles import machine, report
from profiles.timing import Spread

_RULES = """Median (least to most) of {repeats} runs of at least {seconds:g} s each, taken in turns; ratios are of runs
of the same round. Parameters are drawn before, presets' Simulator.batch apart; setting up and compiling is not part of
the runs. "Off" is the largest noise-free difference to {judge} over the peak, border pixels within reach of the PSF
left out."""


def _heading(record: dict[str, Any]) -> str:
    place = "One core" if record["cores"] == "one" else "All cores"
    if record["device"] == "cuda":
        place = "GPU"
    if record["preset"]:
        return f"{place}, presets"
    noise = f"with PSF and noise ({record['recipe']})" if record["noise"] else "with PSF, noise off"
    rays = f'{record["size"]}x{record["size"]} pixels of {record["pixel_scale"]:g}", {record["supersampling"]}^2 rays'
    return f"{place}, {rays}, {noise}"


def _references(record: dict[str, Any]) -> tuple[str, ...]:
    if record["preset"]:
        return ("renderer alone",)
    return ("lenstronomy",) if record["noise"] else ("lenstronomy", "fastest peer")


def _head(record: dict[str, Any]) -> list[str]:
    ratios = [f"x {other}" for other in _references(record)]
    return ["case", "contender", "batch", "images/s", *ratios, "off", "set-up s"]


def _row(record: dict[str, Any], outcome: dict[str, Any]) -> list[str]:
    name = outcome["contender"]
    start = [record["case"], name, str(record["batch"])]
    if outcome["refused"]:
        return [*start, outcome["refused"], *[""] * (len(_head(record)) - 4)]
    ratios = record["times_as_fast_as"]
    shown = [
        report.with_spread(Spread(**ratios[other][name])) if name in ratios.get(other, {}) else ""
        for other in _references(record)
    ]
    off = "" if outcome["deviation"] is None else f"{outcome['deviation']:.0e}"
    rate = report.with_spread(Spread(**outcome["images_per_second"]))
    return [*start, rate, *shown, off, f"{outcome['warm_up']:.1f}"]


def throughput_text(content: dict[str, Any]) -> str:
    """Everything, a table for each heading."""
    settings = content["settings"]
    parts = ["# Throughput", machine.one_line(content["machine"])]
    judge = next((record["judge"] for record in content["records"] if "judge" in record), "lenstronomy")
    parts.append(_RULES.format(**settings, judge=judge))
    if settings["quick"]:
        parts.append("**A quick look with runs too short to be quoted.**")
    for heading, found in groupby(content["records"], key=_heading):
        group = list(found)
        rows = [_row(record, outcome) for record in group for outcome in record["outcomes"]]
        parts += [f"## {heading}", report.markdown(_head(group[0]), rows)]
    parts += report.left_out(content)
    return "\n\n".join([*parts, "How: " + "; ".join(_how(content["records"])) + "."])


def _how(records: list[dict[str, Any]]) -> list[str]:
    """Number formats and chosen variants, each with the contender's cases that it was for."""
    cases: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for outcome in record["outcomes"]:
            if not outcome["refused"]:
                how = ", ".join(word for word in (outcome["dtype"], outcome["notes"]) if word)
                cases.setdefault((outcome["contender"], how), []).append(record["case"])
    ways: dict[str, int] = {}
    for contender, _ in cases:
        ways[contender] = ways.get(contender, 0) + 1
    return [
        f"{contender}: {how}" + (f" ({', '.join(dict.fromkeys(used))})" if ways[contender] > 1 else "")
        for (contender, how), used in cases.items()
    ]
