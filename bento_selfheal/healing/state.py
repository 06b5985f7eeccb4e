"""The state that is shown, and what may change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bento_selfheal.core.records import State
from bento_selfheal.core.transitions import STATES, Cause, follow


class ShownState:
    """Where the service stands; only steps that `core.transitions` allows are taken.

    Args:
        drifts: Called whenever it becomes DRIFTING, from whatever state.
    """

    def __init__(self, drifts: Callable[[], None] = lambda: None) -> None:
        self.now = self._at_rest = State.HEALTHY
        self._drifts = drifts

    def become(self, cause: Cause, state: State) -> None:
        """Change to a state.

        Raises:
            IllegalTransition: The cause may not lead there from here.
        """
        self.now = follow(STATES, self.now, cause, state)
        if state is State.HEALING:  # a heal in the middle of a drift does not end it
            return
        before, self._at_rest = self._at_rest, state
        if state is State.DRIFTING and before is not State.DRIFTING:
            self._drifts()

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"state": self.now}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.now = self._at_rest = State(state["state"])
