"""Contrastive learning by noise: NT-Xent between an image and itself with more Gaussian noise (ML4PS 2023)."""

from __future__ import annotations

import dataclasses

from trainers.self_supervision import simclr

METHOD = dataclasses.replace(simclr.METHOD, views=("none", "noise"))
