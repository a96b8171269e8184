"""Batch norms, whose statistics are of a batch: what several processes and steps on trial make of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norms(model: nn.Module, fabric: Fabric) -> None:
    """Lets the batch norms of `model` that are in training take their statistics over the images of all processes.

    So several processes are one. On a CPU torch has no such batch norm, and a warning says what that means.
    """
    trained = [name for name, layer in model.named_modules() if isinstance(layer, _BatchNorm) and layer.training]
    if fabric.world_size == 1 or not trained:
        return
    if fabric.device.type == "cuda":
        convert_sync_batchnorm(model)  # timm's, as torch's would drop the activations of timm's batch norms
    elif fabric.is_global_zero:
        warnings.warn(
            f"the model has batch norms ({trained[0]}, ...), which on CPUs take their statistics over the images of "
            f"each of the {fabric.world_size} processes: losses and figures differ from those of one process.",
            stacklevel=3,
        )


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Puts back, at its end, the buffers (running means, ...) as they were: steps within it leave no trace in them."""
    before = [buffer.clone() for buffer in model.buffers()]
    yield
    with torch.no_grad():
        for buffer, former in zip(model.buffers(), before, strict=True):
            buffer.copy_(former)
