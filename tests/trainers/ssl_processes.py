"""Runs of trainers.ssl, a few steps of each method, with the gradients that all ranks agreed on: as a script, on two
processes: `python ssl_processes.py OUT METHODS FLAGS...`."""

import sys

import torch
from lightning.fabric import Fabric

from trainers import ssl
from trainers.command_line import parse
from trainers.data import open_data
from trainers.loop import Loop
from trainers.session import claim_folder, launch


def gradients(method, flags, fabric=None):
    """The loop of a run of `method`, and the gradients of each step before they are clipped: parameter -> tensor."""
    config = parse(ssl.SSLConfig, "ssl_cpu", [*flags, f"--method={method}"])
    fabric = fabric or launch(config.run)
    config = claim_folder(config, "ssl", fabric)
    data = open_data(
        config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
    )
    task = ssl.SSLTask(config, data, data.transform, fabric.device)
    loop = Loop(fabric, task, data.source, config)
    clip, found = Fabric.clip_gradients, []

    def noting(self, module, optimizer, **options):
        weights = task.model.named_parameters()
        found.append({name: weight.grad.clone() for name, weight in weights if weight.grad is not None})
        return clip(self, module, optimizer, **options)

    Fabric.clip_gradients = noting
    try:
        loop.start()
        loop.run()
    finally:
        Fabric.clip_gradients = clip
    return loop, found


def buffers(model):
    """What a checkpoint holds beside the weights: the centre of DINO, for one."""
    weights = dict(model.named_parameters())
    return {name: value for name, value in model.state_dict().items() if name not in weights}


def main(out, methods, *flags):
    fabric, kept = None, {}
    for method in methods.split(","):
        loop, found = gradients(method, [*flags, f"--out={out}/{method}"], fabric)
        fabric = loop.fabric
        kept[method] = {"gradients": found, "buffers": buffers(loop.task.model)}
    if fabric.is_global_zero:
        torch.save(kept, f"{out}/gradients.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
