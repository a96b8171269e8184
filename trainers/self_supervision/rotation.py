"""Contrastive learning by rotation: NT-Xent between an image and itself turned by any angle (ML4PS 2023)."""

from __future__ import annotations

import dataclasses

from trainers.self_supervision import simclr

METHOD = dataclasses.replace(simclr.METHOD, views=("none", "rotation"))
