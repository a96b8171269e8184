"""The GPU report as one Markdown page."""

from __future__ import annotations

import re
from typing import Any

from profiles import gpu_results, machine, report
from profiles.gpu_targets import CHECKERS
from profiles.steps import DONE

_GIB = 2**30
_LARGE = 2048
CAPTIONS = {
    "throughput": "Presets", "scaling": "Scaling", "overlap": "Simulator and training", "memory": "Memory",
    "mae": "Reconstructions of the short run",
}  # fmt: skip
_SCRIPTS = {
    "throughput": "Presets, from index to pixels", "scaling": "Scaling", "memory": "Memory", "draws": "Drawn numbers",
    "registers": "Registers",
}  # fmt: skip


def page(content: dict[str, Any], figures: dict[str, str]) -> str:
    """Everything that is known so far.

    Args:
        figures: step -> name of the picture beside the page.
    """
    steps = {step["name"]: step for step in content["steps"]}
    results = {name: step["result"] for name, step in steps.items()}
    settings = content["settings"]
    parts = [f"# GPU report: {content['card'].get('name', 'unknown card')}"]
    if settings["quick"]:
        parts.append(
            "**A quick run: the same steps at tiny sizes on a CPU, to show that they run. No figure here is to be "
            "quoted, and none is of a GPU.**"
        )
    if not settings["ended"]:
        parts.append("**Not all steps have run: what is below is what was done.**")
    parts += [_card(content["card"])] if content["card"] else []
    parts += [machine.one_line(content["machine"])] if content["machine"] else []
    parts += ["## Aims", _targets(content["targets"])]
    spent = f"{settings['seconds']:.0f} s in all, of at most {settings['budget']:.0f} s."
    parts += ["## Steps", _steps(content["steps"]), spent]
    parts += _engines(results.get("engines", {}))
    parts += _training(results)
    parts += [f"![{CAPTIONS[name]}]({figures[name]})" for name in ("overlap", "mae") if name in figures]
    parts += _checks(results)
    for name, title in _SCRIPTS.items():
        if text := results.get(name, {}).get("text"):
            parts += [f"## {title}", _body(text)]
        if name in figures:
            parts.append(f"![{CAPTIONS[name]}]({figures[name]})")
    parts += _failures(content["steps"])
    return "\n\n".join(parts)


def _card(card: dict[str, Any]) -> str:
    if not card.get("cuda"):
        return f"No CUDA device. torch {card['torch']}, CuPy {card['cupy']}, NVRTC {card['nvrtc']}."
    mig = card.get("mig", "unknown")
    rows = [
        ["card", card["name"]],
        ["compute capability", ".".join(map(str, card["capability"]))],
        ["multiprocessors", str(card["multiprocessors"])],
        ["memory", f"{card['memory_bytes'] / _GIB:.1f} GiB, {card['free_bytes'] / _GIB:.1f} free at the start"],
        ["L2", f"{(card.get('l2_bytes') or 0) / 2**20:.0f} MiB"],
        ["MIG", {"Disabled": "no", "Enabled": "yes", "[N/A]": "no"}.get(mig, mig)],
        ["clock, highest", f"{card.get('highest_clock_mhz', '?')} MHz; {card.get('clock_mhz', '?')} at the start"],
        ["power limit", f"{card.get('power_limit_w', '?')} W"],
        ["driver", card.get("driver", "unknown")],
        ["torch", f"{card['torch']}, CUDA {card['torch_cuda']}"],
        ["CuPy", card["cupy"]],
        ["NVRTC", card["nvrtc"]],
    ]
    return report.markdown(["", ""], rows).replace("---:", "---")


def _targets(targets: list[dict[str, str]]) -> str:
    rows = [[t["what"], t["aim"], t["found"], f"**{t['verdict']}**"] for t in targets]
    return report.markdown(["", "aim", "found", ""], rows).replace("---:", "---")


def _steps(steps: list[dict[str, Any]]) -> str:
    rows = [
        [s["title"], s["status"] + (f": {s['why']}" if s["why"] else ""), f"{s['seconds']:.0f}", f"{s['limit']:.0f}"]
        for s in steps
    ]
    return report.markdown(["step", "", "s", "of at most"], rows)


def _engines(engines: dict[str, Any]) -> list[str]:
    """The script's own tables, and ratios to the two that everybody has."""
    if not engines.get("records"):
        return []
    rows = []
    for record in engines["records"]:
        case, batch, noise = record["case"], record["batch"], record["noise"]
        rate = gpu_results.rates(engines)[case, batch, noise].get("lensgen cuda")
        if rate is None:
            continue
        ratios = (
            gpu_results.ratio(engines, case, batch, noise, "lensgen cuda", other)
            for other in ("lensgen torch", "caustics, compiled", "caustics", "lenstronomy")
        )
        shown = ["" if ratio is None else report.number(ratio) for ratio in ratios]
        rows.append([case, f"{batch:,}", "yes" if noise else "no", report.number(rate), *shown])
    parts = ["## Engines", _body(engines["text"])]
    if rows:
        head = ["case", "batch", "noise", "images/s", "x torch", "x caustics compiled", "x caustics", "x lenstronomy"]
        parts += [
            "Engine `cuda`, and how many times as fast it is, of runs of the same rounds:",
            report.markdown(head, rows),
        ]
    return parts


def _training(results: dict[str, dict[str, Any]]) -> list[str]:
    parts = []
    if text := results.get("overlap", {}).get("text"):
        parts.append(_body(text))
    mae = results.get("mae", {})
    if mae:
        device = mae.get("summary", {}).get("device", "not said, as it did not end")
        parts.append(
            f"`trainers.mae --stream`, {mae['steps']} steps on {device}, "
            f"engine {', '.join(mae['engines']) or 'not said'}: {report.number(mae['images_per_second'])} "
            f"images/s, {mae['share_simulating']:.2%} of the time waiting for images (median of the second half of the "
            f"steps); loss {mae['first_loss']:.3g} at first, {mae['last_loss']:.3g} at the end."
        )
    return ["## Training", *parts] if parts else []


def _checks(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for step, what in CHECKERS.items():
        found = results.get(step, {})
        if not found:
            continue
        errors = "run without the tool" if found["errors"] is None else f"{found['errors']} errors"
        end = "" if found["complete"] else "; stopped before the end"
        end += "; from a CUDA graph" if found["graph"] else ""
        rendered = "; ".join(found["rendered"]) or "nothing"
        lines.append(f"- {what}: {errors}; engine {found['engine'] or 'not said'} rendered {rendered}{end}")
        if found["errors"]:
            lines += ["", _code("\n".join(found["said"])), ""]
    tests = results.get("tests", {})
    if tests:
        lines.append(f"- tests: {tests['passed']} passed, {tests['skipped']} skipped, {len(tests['failed'])} failed")
        lines += [f"  - {name}" for name in tests["failed"]]
        lines += [f"  - {count} skipped: {why}" for why, count in tests["reasons"].items()]
    return ["## Checks", "\n".join(lines)] if lines else []


def _body(text: str) -> str:
    """A script's page without its heading and machine, its own headings a level lower."""
    kept = text.strip().split("\n\n")[2:]
    return re.sub(r"^## ", "### ", "\n\n".join(kept), flags=re.MULTILINE)


def _failures(steps: list[dict[str, Any]]) -> list[str]:
    """How those ended that did not end well."""
    parts = []
    for step in steps:
        if step["tail"] and step["status"] != DONE:
            parts += [f"### {step['title']}: {step['status']}", f"`{step['command']}`", _code(step["tail"])]
    return ["## Ends of what did not end well", *parts] if parts else []


def _code(text: str) -> str:
    return "```\n" + text.replace("```", "'''") + "\n```"
