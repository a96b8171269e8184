"""A reproduction whose runs only wait, in a process of its own: `patient_runs.py FOLDER PROCESSES SECONDS NAME...`

Runs whose name begins with "optional" need not be done. The exit status is 0, 1 after a TrainingError, or 130 after
Ctrl-C.
"""

import json
import os
import sys
import time
from pathlib import Path

from trainers.errors import TrainingError
from trainers.reproduction.cell import Cell
from trainers.reproduction.runner import Runner
from trainers.timing import Interrupt

STEP = 0.02


def patient(argv: list[str]) -> int:
    """A trainer: counts steps in `steps.txt`, saves at every fiftieth and when it is interrupted, as the real ones do.

    It needs as many steps as `needs.txt` in its folder says, and notes its process and first step in `sessions.txt`.
    """
    folder = Path(argv[-1])
    saved = sorted((folder / "checkpoints").glob("step_*"))
    step = int(saved[-1].name.removeprefix("step_")) if saved else 0
    needed = int((folder / "needs.txt").read_text())
    with (folder / "sessions.txt").open("a") as file:
        file.write(f"{os.getpid()} {step}\n")
    with Interrupt() as interrupt:
        while step < needed:
            time.sleep(STEP)
            step += 1
            (folder / "steps.txt").write_text(f"{step}\n")
            if step % 50 == 0 or interrupt.asked:
                (folder / "checkpoints" / f"step_{step:06d}").mkdir(parents=True, exist_ok=True)
            if interrupt.asked:
                return 130
    (folder / "summary.json").write_text("{}")
    return 0


def main(root: Path, processes: int, seconds: float, names: list[str]) -> int:
    cells = [Cell(name, "mae", "kind", 8) for name in names]
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "needs.txt").write_text(str(round(seconds / STEP)))
    runner = Runner(root, {"mae": patient}, processes)
    try:
        took = runner.run(
            cells, 1.0, dict.fromkeys(names, seconds), "runs", must=lambda cell: not cell.name.startswith("optional")
        )
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps({"took": took, "failed": runner.failed}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
