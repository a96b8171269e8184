"""The table of arXiv 2512.06642 from the runs that are done: JSON, Markdown, and what can be concluded from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.classify_evaluation import PREDICTIONS
from trainers.reproduction.budget import Level
from trainers.reproduction.cell import read_result
from trainers.reproduction.estimates import Estimate, mean_of_seeds, signed, verdict, words
from trainers.reproduction.mae.names import MODES, PAPER, PAPER_SUPERRES, SCRATCH, SOURCES, row_folder
from trainers.reproduction.paired import auc_difference, dense_ranks, mean_difference
from trainers.reproduction.protocol import Protocol
from trainers.superres_evaluation import CONVENTIONS, SCORES

FIGURES = ("macro_auc", "accuracy", "psnr", "ssim")


def collect(root: Path, protocol: Protocol, level: Level) -> list[dict[str, Any]]:
    """A row for each mode and way to begin: figures, images and what the paper has; `seeds` 0 for one not reached.

    A figure is the mean of the seeds; its interval reaches from the lowest lower to the highest upper end of their
    bootstrap intervals, which is wider than one of the mean would be.
    """
    return [_row(root, mode, row, level.seeds) for mode in MODES for row in protocol.rows]


def _row(root: Path, mode: str, row: str, seeds: int) -> dict[str, Any]:
    found: dict[str, list[Estimate]] = {name: [] for name in FIGURES}
    bicubic: dict[str, list[Estimate]] = {"psnr": [], "ssim": []}
    images: dict[str, int] = {}
    done = 0
    for seed in range(seeds):
        folder = f"{mode}/seed{seed}/{row_folder(row)}"
        pretrain, _ = read_result(root, f"{folder}/pretrain")
        summary, classify = read_result(root, f"{folder}/classify")
        superres_summary, superres = read_result(root, f"{folder}/superres")
        if not (classify and superres):
            continue
        done += 1
        for name in ("macro_auc", "accuracy"):
            found[name].append(classify[name])
        convention = superres[convention_of(mode)]
        for name in ("psnr", "ssim"):
            found[name].append(convention["prediction"][name])
            bicubic[name].append(convention["bicubic"][name])
        for name, part in (("pretrain", pretrain), ("classify", summary), ("superres", superres_summary)):
            if part:
                images[name] = part["images_seen"]
                images[f"{name}_distinct"] = part["images_distinct"]
    paper = dict(PAPER.get(row, {})) if mode == "paper" else {}
    return {
        "mode": mode,
        "row": row,
        "seeds": done,
        "images": images,
        **{name: mean_of_seeds(parts) for name, parts in found.items() if parts},
        "bicubic": {name: mean_of_seeds(parts) for name, parts in bicubic.items() if parts},
        "paper": paper,
    }


def as_markdown(rows: Sequence[Mapping[str, Any]], level: Level, protocol: Protocol) -> str:
    """Both modes' tables."""
    lines = []
    for mode in MODES:
        preset = protocol.recipe["modes"][mode]["preset"]
        stored = "a stored set of the paper's size" if mode == "paper" else "a stream"
        options = protocol.recipe["superres"][mode]
        low = (
            "the simulator's optics"
            if options["low"] == "optics"
            else f"down-sampling ({options.get('downsample', 'area')})"
        )
        lines += [
            f"## {mode.capitalize()} mode: `{preset}`, {stored}",
            "",
            f"PSNR and SSIM: {CONVENTIONS[convention_of(mode)]}; low resolution by {low}.",
            "",
            "| begins with | seeds | images: pretraining, classes, pixels | macro AUC | accuracy | PSNR [dB] | SSIM |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in rows if row["mode"] == mode]
        reference = next((row["bicubic"] for row in rows if row["mode"] == mode and row["bicubic"]), None)
        if reference:
            lines.append(f"| bicubic | | | | | {words(reference['psnr'], 2)} | {words(reference['ssim'], 4)} |")
        if mode == "paper":
            psnr, ssim = PAPER_SUPERRES["psnr"], PAPER_SUPERRES["ssim"]
            lines.append(f"| *the paper, down-sampling not stated* | | | | | about {psnr:.0f} | {ssim} |")
            for name, pixels in (("0.9", "|"), (SCRATCH, "|")):
                figures = PAPER[name]
                lines.append(
                    f"| *the paper, {name}* | | | {figures['macro_auc']} | {figures['accuracy']:.4f} | {pixels} |"
                )
        lines.append("")
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    name = "scratch" if row["row"] == SCRATCH else f"MAE, {float(row['row']):.0%} masked"
    if not row["seeds"]:
        return f"| {name} | not reached | | | | | |"
    images = row["images"]
    counts = ", ".join(
        "-" if part not in images else _count(images[part], images[f"{part}_distinct"])
        for part in ("pretrain", "classify", "superres")
    )
    return (
        f"| {name} | {row['seeds']} | {counts} | {words(row['macro_auc'], 3)} | {words(row['accuracy'], 3)} "
        f"| {words(row['psnr'], 2)} | {words(row['ssim'], 4)} |"
    )


def _count(seen: int, distinct: int) -> str:
    return f"{seen:,}" if seen == distinct else f"{seen:,} ({distinct:,} different)"


def conclusions(root: Path, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the paper says of mask ratios, held against the runs: a higher one gives better classes and worse pixels.

    Returns:
        for each mode, figure and pair of rows `one`, `other`: the difference `value`, `low`, `high` of one minus other
        on the same test images (the first seeds that both have), and `verdict` in words.
    """
    seeds = {(row["mode"], row["row"]): row["seeds"] for row in rows}
    found = []
    for mode in MODES:
        for one, other in (("0.9", "0.5"), ("0.9", SCRATCH), ("0.5", SCRATCH)):
            count = min(seeds.get((mode, one), 0), seeds.get((mode, other), 0))
            if not count:
                continue
            for figure, digits in (("macro_auc", 4), ("psnr", 3)):
                gap = _gap(root, mode, one, other, figure, count)
                found.append({"mode": mode, "one": one, "other": other, "figure": figure, "digits": digits,
                              "seeds": count, **gap, "verdict": verdict(gap)})  # fmt: skip
    return found


def _gap(root: Path, mode: str, one: str, other: str, figure: str, seeds: int) -> dict[str, float]:
    task, file = ("classify", PREDICTIONS) if figure == "macro_auc" else ("superres", SCORES)
    arrays = {
        row: [dict(np.load(root / mode / f"seed{seed}" / row_folder(row) / task / file)) for seed in range(seeds)]
        for row in (one, other)
    }
    first = arrays[one][0]
    assert all(np.array_equal(part["index"], first["index"]) for parts in arrays.values() for part in parts)
    if figure == "macro_auc":
        ranks = {row: [dense_ranks(part["probability"]) for part in parts] for row, parts in arrays.items()}
        return auc_difference(ranks[one], ranks[other], first["label"])
    column = f"{convention_of(mode)}_{figure}"
    return mean_difference([part[column] for part in arrays[one]], [part[column] for part in arrays[other]])


def convention_of(mode: str) -> str:
    """How pixels are scored: as the paper does, each image scaled by its own range, or in the run's one range."""
    return "own_range" if mode == "paper" else "data_range"


def conclusion_words(conclusions: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line each."""
    names = {"macro_auc": "macro AUC", "psnr": "PSNR [dB]"}
    return [
        f"{part['mode']} mode: {names[part['figure']]} after masking {part['one']} minus "
        f"{'from scratch' if part['other'] == SCRATCH else 'after ' + part['other']}: "
        f"{part['value']:+.{part['digits']}f} ({part['low']:+.{part['digits']}f} to "
        f"{part['high']:+.{part['digits']}f}), {part['verdict']}; {part['seeds']} network(s) each"
        for part in conclusions
    ]


def comparison_words(comparison: Mapping[str, Any]) -> list[str]:
    """The stored sets against the stream, a line each."""
    lines = [
        "| trained on | images seen | different | shown, on average | macro AUC, mean of three seeds | each seed | "
        "cross entropy |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {
        "stored_paper_size": "stored, the paper's size",
        "stored_scaled": "stored, as often repeated as papers do",
        "stream": "stream",
    }
    for source in SOURCES:
        part = comparison["sources"][source]
        each = ", ".join(f"{value:.3f}" for value in part["final_auc"])
        lines.append(
            f"| {names[source]} | {part['images_seen']:,} | {part['images_distinct']:,} "
            f"| {part['images_seen'] / part['images_distinct']:.1f} times | {np.mean(part['final_auc']):.3f} | {each} "
            f"| {np.mean(part['final_loss']):.3f} |"
        )
    for source in SOURCES[:2]:
        gap = comparison["stream_minus"][source]
        winner = verdict(gap, "the stream wins", "the stored set wins")
        lines += [
            "",
            f"AUC of the stream minus that of {names[source]}: {signed(gap)}; {winner}.",
        ]
    return lines
