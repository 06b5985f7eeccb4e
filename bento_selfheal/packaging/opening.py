"""Opens a package from the model store, checked and on its device."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from bento_selfheal.config.validation import describe
from bento_selfheal.errors import PackageError, SettingsError
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.model_store import find_model
from bento_selfheal.packaging.package import CANARY_ROWS, Package, PackageInfo

WEIGHTS, REFERENCE, INFO = "weights.safetensors", "reference.safetensors", "package.json"


def find_device(name: str | torch.device) -> torch.device:
    """The device that the setting `device` names.

    Raises:
        SettingsError: It is no CPU or CUDA device, or torch finds no such one here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device: {name!r} is no torch device: {error}") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise SettingsError(f"device: {str(name)!r} is not cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= (device.index or 0) < found:
        raise SettingsError(
            f"device: {str(name)!r} is not there; torch {torch.__version__} finds {found} CUDA"
            " devices"
        )
    return device


def open_package(tag: str, device: str | torch.device = "cpu") -> Package:
    """Open a packaged model, on a device.

    Raises:
        bentoml.exceptions.NotFound: No such model.
        PackageError: It is not one of ours, damaged, or does not run on the device.
        SettingsError: There is no such device.
    """
    place = find_device(device)
    stored = find_model(tag)
    folder = Path(stored.path)
    exact = str(stored.tag)
    if not (folder / INFO).exists():
        raise PackageError(f"{exact} was not made by bento_selfheal: it has no {INFO}")
    try:
        info = PackageInfo.model_validate_json((folder / INFO).read_bytes())
    except ValidationError as error:
        raise PackageError(f"{exact}: {INFO}: {describe(error)}") from error
    if not (folder / WEIGHTS).exists() or _sha256(folder / WEIGHTS) != info.weights_sha256:
        raise PackageError(f"{exact}: {WEIGHTS} does not have the hash noted in {INFO}")
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn only to be replaced
        model = _build(info.builder, info.builder_args)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise PackageError(f"{exact}: the weights do not fit {info.builder}: {error}") from error
    model.requires_grad_(False).eval()
    try:
        reference = load_file(folder / REFERENCE)
        rows, labels = reference["rows"].numpy(), reference["labels"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise PackageError(f"{exact}: {REFERENCE} cannot be read: {error}") from error
    package = Package(exact, info, model, rows, labels)
    if place.type != "cpu":
        _move(package, place)
    return package


def _move(package: Package, device: torch.device) -> None:
    """Bring the model to a device and see that it answers there."""
    # Convolutions would round to 10 bits by default, which no tolerance between devices allows.
    torch.backends.cudnn.allow_tf32 = False
    try:
        package.model.to(device)
        package.shadow(package.reference_rows[:CANARY_ROWS])
    except RuntimeError as error:
        raise PackageError(f"{package.tag}: does not run on device {device}: {error}") from error


def _build(builder: str, builder_args: Mapping[str, Any]) -> SelfHealingModel:
    module, colon, function = builder.partition(":")
    if not colon:
        raise PackageError(f"builder: {builder!r} is not 'module:function'")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PackageError(f"builder: cannot import {builder!r}: {error}") from error
    try:
        model = make(**builder_args)
    except TypeError as error:
        raise PackageError(f"builder_args: {builder!r} refuses them: {error}") from error
    if not isinstance(model, SelfHealingModel):
        raise PackageError(
            f"builder: {builder!r} gave {type(model).__name__}, a SelfHealingModel is needed"
        )
    return model


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
