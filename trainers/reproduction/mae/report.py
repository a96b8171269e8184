"""Everything that the runs of arXiv 2512.06642 show, in the order of its `table.md`."""

from __future__ import annotations

from pathlib import Path

from trainers.reproduction.budget import Level
from trainers.reproduction.estimates import DIFFERENCES, INTERVALS
from trainers.reproduction.mae.comparison import compare
from trainers.reproduction.mae.figures import draw_comparison, draw_table
from trainers.reproduction.mae.results import as_markdown, collect, comparison_words, conclusion_words, conclusions
from trainers.reproduction.protocol import Protocol, Report


def report(root: Path, protocol: Protocol, level: Level) -> Report:
    """Table, conclusions and the comparison of sources; draws `table.png` and `stored_or_streamed.png`."""
    rows = collect(root, protocol, level)
    comparison = compare(root, protocol)
    concluded = conclusions(root, rows)
    draw_table(root / "table.png", rows)
    draw_comparison(root / "stored_or_streamed.png", comparison)
    return Report(
        {"rows": rows, "conclusions": concluded, "comparison": comparison},
        f"Figures are of test images, by the checkpoint that was best in validation. {INTERVALS}",
        [
            as_markdown(rows, level, protocol),
            f"Differences on the same test images. {DIFFERENCES}",
            "",
            *[f"- {line}" for line in conclusion_words(concluded)],
            "",
            "## Stored or streamed, at equal steps",
            "",
            *comparison_words(comparison),
        ],
        ("table.png", "stored_or_streamed.png"),
    )
