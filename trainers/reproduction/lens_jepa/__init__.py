"""Lens-JEPA (ML4PS 2025) beside its baselines, and what pretraining and its physics are worth."""
