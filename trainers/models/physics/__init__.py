"""Layers that know the lens equation, differentiable in everything that they are given."""

from trainers.models.physics.forward_lens import ForwardLens
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.potential import PotentialLens
from trainers.models.physics.preprocess import lenspinn_preprocess
from trainers.models.physics.source import Source

__all__ = ["ForwardLens", "InverseLens", "PotentialLens", "Source", "lenspinn_preprocess"]
