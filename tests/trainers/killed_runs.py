"""Runs for tests to kill, in processes that are forked from a server with the imports and without threads.

A fork of pytest itself would take along locks that threads of its own (tqdm's, TensorBoard's) hold just then.
"""

import multiprocessing
import os
import pkgutil
import signal
import sys

import torch

from trainers import mae
from trainers.command_line import exit_with_message

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["trainers.mae", "trainers.command_line", "torch.utils.tensorboard"])


def start(change, argv, said):
    """A process that runs the trainer after `change()`, and prints into the file `said`."""
    process = SERVER.Process(target=_run, args=(change, [str(word) for word in argv], str(said)))
    process.start()
    return process


def _run(change, argv, said):
    log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    torch.set_num_threads(1)
    mae.MAETask.draw = lambda self, folder: []  # takes longer than all the rest
    change()
    exit_with_message(lambda: mae.main(argv))


def nothing():
    """No change."""


def at_call(place, name, number, action):
    """The function `name` of a module or `module:class` acts at its `number`-th call, before it does what it does."""
    owner = pkgutil.resolve_name(place)
    original, count = getattr(owner, name), []

    def patched(*args, **kwargs):
        count.append(1)
        if len(count) == number:
            action()
        return original(*args, **kwargs)

    setattr(owner, name, patched)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def no_room():
    raise OSError(28, "No space left on device")


def die_while_deleting(prefix):
    """When the first folder whose name begins so is deleted, one file of it is gone."""
    from trainers import checkpoint

    def half(path, **options):
        if path.name.startswith(prefix):
            next(path.iterdir()).unlink()
            die()

    checkpoint.shutil.rmtree = half


def limit_files(limit):
    """No file may grow beyond so many bytes."""
    import resource
    import threading

    threading.excepthook = lambda _: None  # TensorBoard's fails too, and what it says would not fit into the output
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
