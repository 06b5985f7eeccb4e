"""The weights of a network of the user's own, under its own names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from bento_selfheal.core.tensors import hash_file
from bento_selfheal.embedding.embedder import Embedder
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.source import DTYPES
from bento_selfheal.embedding.split import Split
from bento_selfheal.errors import PackageError
from bento_selfheal.packaging.network.fitting import build_network, typed_as
from bento_selfheal.packaging.package import Package, check_hash

NETWORK = "network.safetensors"
STORED = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
"""Types of floats, as safetensors calls them."""


def write_network(network: nn.Module, folder: Path) -> str:
    """Write a network's weights under its own names; their hash. Tied ones are written once."""
    save_model(network, str(folder / NETWORK))
    return hash_file(folder / NETWORK)


def open_network(package: Package, folder: Path, noted: Embedding) -> Embedder:
    """What embeds the inputs of a package, on the package's device, from its folder.

    Raises:
        PackageError: The network is damaged, or its builder builds another one.
    """
    path = folder / NETWORK
    check_hash(path, noted.weights_sha256, package.tag)
    network = build_network(noted.network, noted.network_args)
    try:
        load_model(typed_as(network, _types(path), DTYPES[noted.dtype]), path)
    except (RuntimeError, SafetensorError) as error:
        raise PackageError(
            f"{package.tag}: the weights do not fit {noted.network}: {error}"
        ) from error
    device = package.model.device
    return Embedder(noted.source, Split(network.to(device), noted.head), noted.width, device)


def _types(path: Path) -> dict[str, torch.dtype]:
    """The types of the floats in a file, by their names; none of them is read."""
    with safe_open(path, framework="pt") as file:
        noted = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return {name: STORED[kind] for name, kind in noted.items() if kind in STORED}
