"""Trainers on endless simulated lenses: `python -m trainers.mae --stream`. One file a method; the rest is shared."""

import time

# The summary's wall time starts here, before the heavy imports, so that it says what a user waits.
STARTED = time.monotonic()
