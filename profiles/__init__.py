"""The stopwatch: `python -m profiles.throughput`, `scaling`, `memory` and `overlap`. Results go to profiles/results."""
