"""Notices that another process of the run died, ends this one, and says how to go on.

Left alone the survivors would wait in the next exchange of gradients: with NCCL until its watchdog's timeout (minutes),
with gloo until the connection breaks, and then with a traceback that does not say what happened. Every process
therefore keeps one connection to rank 0 for as long as it trains. The operating system closes it when a process dies,
however it dies; keep-alive probes find a machine that is gone.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import torch
from lightning.fabric import Fabric

from lensgen.errors import LensgenError

JOINING = 60.0  # seconds to wait for the others at the start
LEFT = b"left\n"


class Watch:
    """Watches the other processes from a thread, from now to `leave`; does nothing for a single process.

    Args:
        fabric: launched.
        saved: called when a process is lost: says what is saved and how to go on.
    """

    def __init__(self, fabric: Fabric, saved: Callable[[], str]) -> None:
        self._rank, self._size, self._saved = fabric.global_rank, fabric.world_size, saved
        self._peers: dict[socket.socket, int] = {}
        if self._size == 1:
            return
        self._connect(fabric)
        joined = float(len(self._peers) == (self._size - 1 if self._rank == 0 else 1))
        share = fabric.all_reduce(torch.tensor(joined, device=fabric.device), reduce_op="mean")
        if float(cast(torch.Tensor, share)) < 1:  # all or none: who could not join must not look like one that died
            print("the processes cannot reach one another beside torch: a lost one is noticed late.", file=sys.stderr)
            self._peers.clear()
            return
        # a DataLoader's workers are forked: their copies would keep the connections of a dead process open
        os.register_at_fork(after_in_child=lambda peers=tuple(self._peers): [peer.close() for peer in peers])
        threading.Thread(target=self._listen, daemon=True, name="watch").start()

    def leave(self) -> None:
        """Ends the watch; to be called where all processes come to the end of the run together."""
        for peer in list(self._peers):
            with suppress(OSError):
                peer.sendall(LEFT)
        self._peers.clear()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Within it an exchange that fails because another process is gone does not end in a traceback."""
        try:
            yield
        except RuntimeError as error:
            # torch says only "connection closed"; the thread knows more and ends this process within moments
            if self._peers and not isinstance(error, LensgenError):
                time.sleep(5)
            raise

    def _connect(self, fabric: Fabric) -> None:
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        token = secrets.token_hex(16).encode()
        listener = _listener(host) if self._rank == 0 else None
        port, token = fabric.broadcast((listener.getsockname()[1] if listener else 0, token))
        with suppress(OSError):
            if listener is None:
                peer = socket.create_connection((host, port), timeout=JOINING)
                peer.sendall(token + self._rank.to_bytes(4, "big"))
                self._keep(peer, 0)
                return
            until = time.monotonic() + JOINING
            with listener:
                while len(self._peers) < self._size - 1:
                    listener.settimeout(max(0.1, until - time.monotonic()))
                    peer, _ = listener.accept()
                    peer.settimeout(5)
                    hello = peer.recv(len(token) + 4, socket.MSG_WAITALL)
                    if hello[:-4] == token:  # others may knock at an open port
                        self._keep(peer, int.from_bytes(hello[-4:], "big"))

    def _keep(self, peer: socket.socket, rank: int) -> None:
        peer.settimeout(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):  # macOS lacks some
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
        self._peers[peer] = rank

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer, rank in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    said = b""
                    with suppress(OSError):
                        said = key.fileobj.recv(64)  # type: ignore[union-attr]
                    selector.unregister(key.fileobj)
                    if said != LEFT and self._peers:  # else that one, or this one, has left
                        self._lost(int(said) if said.strip().isdigit() else key.data)

    def _lost(self, rank: int) -> None:
        for peer in list(self._peers) if self._rank == 0 else ():
            with suppress(OSError):
                peer.sendall(b"%d\n" % rank)
        print(
            f"\nerror: process {rank} of {self._size} is gone: killed, out of memory, or ended by an error that it "
            f"names itself; process {self._rank} cannot go on without it. {self._saved()}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        # The main thread waits for the one that is gone, so only this ends the process. Nothing is lost by it: rows
        # are on file when they are written, and a checkpoint is whole or not there.
        os._exit(2)


def _listener(host: str) -> socket.socket:
    try:
        return socket.create_server((host, 0))
    except OSError:  # the address by which others know this machine is not one of its own
        return socket.create_server(("", 0))
