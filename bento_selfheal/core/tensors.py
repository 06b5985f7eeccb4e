"""Tensors by name: whether they are finite, and their bytes; and hashes of files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.numpy import save
from torch import Tensor


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of those that hold a value which is infinite or no number."""
    # A sum in double precision is finite where all values are, and takes one pass over them.
    sums = {name: value.sum(dtype=torch.float64) for name, value in tensors.items()}
    return [name for name, total in sums.items() if not math.isfinite(float(total))]


def to_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors on the CPU as safetensors."""
    # The same bytes as of `safetensors.torch`, in a fifth of the time where there are many.
    # It writes the memory of what is not contiguous as it lies, so such tensors are copied first.
    return save({name: value.contiguous().numpy() for name, value in tensors.items()}, metadata)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
