"""Snapshots in the model store: one to save, where it lies, and how to damage it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bento_selfheal.core.records import Snapshot
from bento_selfheal.packaging.adapters import ADAPTER
from bento_selfheal.packaging.model_store import home_store
from bento_selfheal.packaging.package import Package


def adapter(package: Package) -> dict[str, Tensor]:
    """An adapter unlike the clean one."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: value + 0.05 * torch.rand(value.shape, generator=generator)
        for name, value in package.model.adapter_state().items()
    }


def file_of(snapshot: Snapshot) -> Path:
    """The file that holds a snapshot's weights."""
    return Path(home_store().get(snapshot.tag).path_of(ADAPTER))


def flip(path: Path, sha: str) -> str:
    """Flip one bit of a file; the hash that was noted stays."""
    blob = bytearray(path.read_bytes())
    blob[-10] ^= 1
    path.write_bytes(blob)
    return sha
