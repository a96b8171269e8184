"""What every preset's benchmark was when its images were last changed on purpose.

`python -m tests.pins` writes `pins.json` anew: to be done together with raising `lensgen.preset.IMAGES_VERSION` and
saying under **Images** in CHANGELOG.md what changed and why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lensgen
from lensgen import Benchmark

PINS = Path(__file__).with_suffix(".json")
SIZE = 1000


def pinned() -> dict[str, Any]:
    """preset -> card."""
    return json.loads(PINS.read_text())


def frozen(preset: str, engine: str = "auto") -> Benchmark:
    return lensgen.benchmark(preset, "test", SIZE, device="cpu", engine=engine)


if __name__ == "__main__":
    cards = {preset: frozen(preset).card for preset in lensgen.presets()}
    PINS.write_text(json.dumps(cards, indent=1) + "\n")
    print(f"{PINS}: {len(cards)} presets")
