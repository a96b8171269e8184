"""Trainers on endless simulated lenses: `python -m trainers.mae --stream`. One file a method; the rest is shared."""

import os
import time

# The summary's wall time starts here, before the heavy imports, so that it says what a user waits.
STARTED = time.monotonic()

# torch's CPU threads (GNU OpenMP) wait for one another by spinning. With another program on one of two cores that made
# training ten times slower (25 steps: 35 s); at this count it is 3 s, and as fast as before on a quiet machine (1 s).
# It must be set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """`trainers.load`, which imports torch and so must come after the setting above."""
    if name in ("load", "Loaded"):
        from trainers import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'trainers' has no attribute {name!r}")
