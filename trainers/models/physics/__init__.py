"""Layers that know the lens equation, differentiable in everything that they are given."""
