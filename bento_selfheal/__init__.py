"""Self-healing torch classifiers on BentoML."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .config import Settings, Thresholds, load_settings
    from .embedding.images import Images
    from .embedding.tensors import Tensors
    from .embedding.texts import Texts
    from .embedding.values import Values
    from .model import ReflexiveLayer, SelfHealingMLP, SelfHealingModel
    from .packaging.build import package_model
    from .packaging.opening import open_package
    from .packaging.package import Package
    from .packaging.training import Training
    from .rules import Rule
    from .wire.messages import FeedbackItem

__all__ = [
    "AsyncClient",
    "Client",
    "FeedbackItem",
    "Images",
    "Package",
    "ReflexiveLayer",
    "Rule",
    "SelfHealingMLP",
    "SelfHealingModel",
    "Settings",
    "Tensors",
    "Texts",
    "Thresholds",
    "Training",
    "Values",
    "load_settings",
    "open_package",
    "package_model",
]

_MODULES = {
    "client": ("AsyncClient", "Client"),
    "config": ("Settings", "Thresholds", "load_settings"),
    "embedding.images": ("Images",),
    "embedding.tensors": ("Tensors",),
    "embedding.texts": ("Texts",),
    "embedding.values": ("Values",),
    "model": ("ReflexiveLayer", "SelfHealingMLP", "SelfHealingModel"),
    "packaging.build": ("package_model",),
    "packaging.training": ("Training",),
    "packaging.opening": ("open_package",),
    "packaging.package": ("Package",),
    "rules": ("Rule",),
    "wire.messages": ("FeedbackItem",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: a client does without torch, rules without BentoML."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
