"""Self-healing torch classifiers on BentoML."""

from .config import Settings, Thresholds, load_settings
from .model import ReflexiveLayer, SelfHealingMLP, SelfHealingModel
from .package import Package, Training, open_package, package_model
from .rules import Rule

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
