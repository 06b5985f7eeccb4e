"""What operators decide, and how far the logs are read: both outlive a restart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bento_selfheal.config.thresholds import Thresholds


@dataclass
class Cursors:
    """Places in the logs up to which everything is taken."""

    start_from: int = 0
    """End of the prediction log when the package was deployed; what came before is another's."""
    predictions: int = 0
    feedback: int = 0
    commands: int = 0
    promotions: int = 0

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        for name, place in state.items():
            setattr(self, name, place)


class Controls:
    """Operators' words, and the thresholds and costs that operations set.

    Args:
        thresholds: Those in force; replaced when the file changes.
        mode: What the settings say; they hold back what no operator can let go.

    Attributes:
        paused: Whether all healing is held back.
        told_to_observe: Whether an operator holds promotions back.
    """

    def __init__(self, thresholds: Thresholds, mode: str) -> None:
        self.thresholds = thresholds
        self._mode = mode
        self.paused = False
        self.told_to_observe = False

    @property
    def observing(self) -> bool:
        """Whether everything is done but the promotion."""
        return self.told_to_observe or self._mode == "observe"

    def apply(self, command: str) -> None:
        """Follow ``pause``, ``observe`` or ``resume``."""
        self.paused = command == "pause"
        self.told_to_observe = command == "observe"

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"paused": self.paused, "told_to_observe": self.told_to_observe}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.paused, self.told_to_observe = state["paused"], state["told_to_observe"]
