"""Settings, thresholds and healing parameters: data only."""

from .parameters import HealParameters
from .settings import Settings, load_settings
from .thresholds import ThresholdFile, Thresholds

__all__ = ["HealParameters", "Settings", "ThresholdFile", "Thresholds", "load_settings"]
