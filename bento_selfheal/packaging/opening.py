"""Opens a package from the model store: checks it and brings it to its device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bentoml.exceptions import BentoMLException
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from bento_selfheal.config.validation import describe
from bento_selfheal.core.importing import import_function
from bento_selfheal.embedding.embedder import Embedder
from bento_selfheal.errors import PackageError, SettingsError
from bento_selfheal.estimators.embedder import OddsEmbedder
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.estimator.file import open_estimator
from bento_selfheal.packaging.model_store import find_model
from bento_selfheal.packaging.network.weights import open_network
from bento_selfheal.packaging.package import CANARY_ROWS, INFO, Package, PackageInfo, check_hash

WEIGHTS, REFERENCE = "weights.safetensors", "reference.safetensors"
EXPERTS = "experts.safetensors"
AnyEmbedder = Embedder | OddsEmbedder


def find_device(name: str | torch.device) -> torch.device:
    """The device that the setting `device` names.

    Raises:
        SettingsError: It is neither a CPU nor a CUDA device, or torch does not find it here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device: {name!r} is not a torch device: {error}") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise SettingsError(f"device: {str(name)!r} is not cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= (device.index or 0) < found:
        raise SettingsError(
            f"device: {str(name)!r} is not available; torch {torch.__version__} finds {found}"
            " CUDA devices"
        )
    return device


def open_package(tag: str, device: str | torch.device = "cpu") -> Package:
    """Open a packaged model, on a device.

    Raises:
        bentoml.exceptions.NotFound: There is no such model.
        PackageError: It was not packaged by this project, is damaged, or does not run on the
            device.
        SettingsError: There is no such device.
    """
    place = find_device(device)
    stored = find_model(tag)
    folder, exact = Path(stored.path), str(stored.tag)
    info = _read_info(folder, exact)
    model = _read_model(folder, exact, info)
    rows, labels = _read_reference(folder, exact)
    experts = folder / EXPERTS if info.experts_sha256 else None
    package = Package(exact, info, model, rows, labels, experts)
    if place.type != "cpu":
        _move(package, place)
    return package


def open_embedder(package: Package) -> AnyEmbedder | None:
    """What makes rows of the inputs of a package; None where rows are a table's.

    Raises:
        PackageError: It is damaged, or cannot be opened here.
    """
    if (noted := package.info.embedding) is None:
        return None
    folder = Path(find_model(package.tag).path)
    if isinstance(noted, Estimated):
        return open_estimator(folder, package.tag, noted)
    return open_network(package, folder, noted)


def info_of(tag: str) -> tuple[str, PackageInfo]:
    """The exact tag of a packaged model and its description, without its weights.

    Raises:
        PackageError: There is no such model here, or it was not packaged by this project.
    """
    try:
        stored = find_model(tag)
    except (BentoMLException, ValueError) as error:  # not there, or no tag at all
        raise PackageError(f"{tag}: there is no such model here: {error}") from error
    exact = str(stored.tag)
    return exact, _read_info(Path(stored.path), exact)


def _read_info(folder: Path, tag: str) -> PackageInfo:
    path = folder / INFO
    if not path.exists():
        raise PackageError(f"{tag} was not packaged by bento_selfheal: it has no {INFO}")
    try:
        return PackageInfo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PackageError(f"{tag}: {INFO}: {describe(error)}") from error


def _read_model(folder: Path, tag: str, info: PackageInfo) -> SelfHealingModel:
    path = folder / WEIGHTS
    check_hash(path, info.weights_sha256, tag)
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn only to be replaced
        model = build_model(info.builder, info.builder_args)
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise PackageError(f"{tag}: the weights do not fit {info.builder}: {error}") from error
    return model.requires_grad_(False).eval()


def _read_reference(folder: Path, tag: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        reference = load_file(folder / REFERENCE)
        return reference["rows"].numpy(), reference["labels"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise PackageError(f"{tag}: {REFERENCE} cannot be read: {error}") from error


def _move(package: Package, device: torch.device) -> None:
    """Bring the model to a device and see that it answers there."""
    # Convolutions would round to 10 bits by default, which no tolerance between devices allows.
    torch.backends.cudnn.allow_tf32 = False
    try:
        package.model.to(device)
        package.baseline(package.reference_rows[:CANARY_ROWS])
    except RuntimeError as error:
        raise PackageError(f"{package.tag}: does not run on device {device}: {error}") from error


def build_model(builder: str, builder_args: Mapping[str, Any]) -> SelfHealingModel:
    """A fresh model from its builder, ``module:function``.

    Raises:
        PackageError: The builder cannot be imported, refuses its arguments, or builds something
            else.
    """
    try:
        make = import_function(builder)
    except ValueError as error:
        raise PackageError(f"builder: {error}") from error
    try:
        model = make(**builder_args)
    except TypeError as error:
        raise PackageError(f"builder_args: {builder!r} rejects them: {error}") from error
    if not isinstance(model, SelfHealingModel):
        raise PackageError(
            f"builder: {builder!r} returned a {type(model).__name__}; it must return a"
            " SelfHealingModel"
        )
    return model
