"""The state that is shown, and what may change it."""

from __future__ import annotations

from typing import Any

from bento_selfheal.core.records import State
from bento_selfheal.core.transitions import STATES, Cause, follow


class ShownState:
    """Where the service stands; only steps that `core.transitions` allows are taken."""

    def __init__(self) -> None:
        self.now = State.HEALTHY

    def become(self, cause: Cause, state: State) -> None:
        """Change to a state.

        Raises:
            IllegalTransition: The cause may not lead there from here.
        """
        self.now = follow(STATES, self.now, cause, state)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"state": self.now}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.now = State(state["state"])
