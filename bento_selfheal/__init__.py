"""Self-healing torch classifiers on BentoML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import Settings, Thresholds, load_settings
from .model import ReflexiveLayer, SelfHealingMLP, SelfHealingModel
from .rules import Rule

if TYPE_CHECKING:
    from .package import Package, Training, open_package, package_model

__all__ = [
    "Package",
    "ReflexiveLayer",
    "Rule",
    "SelfHealingMLP",
    "SelfHealingModel",
    "Settings",
    "Thresholds",
    "Training",
    "load_settings",
    "open_package",
    "package_model",
]


def __getattr__(name: str) -> Any:
    """Import what needs BentoML only when it is asked for: rules and signals do without."""
    if name in __all__:
        from . import package

        return getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
