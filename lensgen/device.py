"""Where to compute: a device by name."""

from __future__ import annotations

import torch

from lensgen.errors import ParameterError


def resolve_device(device: str | torch.device) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; CUDA without a number is the device that is current now.

    ParameterError for a device that is not there.
    """
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ParameterError(f"device = {device!r}: use 'auto', 'cpu', 'cuda' or 'cuda:N'.") from None
    if resolved.type not in ("cpu", "cuda"):  # others lack float64, in which systems are drawn
        raise ParameterError(f"device = {device!r}: lensgen runs on 'cpu' and 'cuda' (or 'auto', one of the two).")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ParameterError(
            f"device = {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices: use 'cpu' or 'auto'."
        )
    if resolved.type == "cuda" and resolved.index is None:  # this rank's; it may be another one later
        return torch.device("cuda", torch.cuda.current_device())
    return resolved
