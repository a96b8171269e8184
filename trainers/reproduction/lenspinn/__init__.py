"""LensPINN (ML4PS 2024) beside its baselines, and what its physics and its preprocessing are worth."""
