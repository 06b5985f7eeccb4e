"""What serves, what it replaced, and the models of both."""

from __future__ import annotations

from typing import Any

from bento_selfheal.core.records import Snapshot
from bento_selfheal.healing.champion.snapshots import SnapshotHistory
from bento_selfheal.model import SelfHealingModel


class Lineage:
    """The champion, and the predecessor that its line of challengers began from.

    Args:
        clean: The packaged model, which serves before any promotion is known.
        history: The snapshots known.

    Attributes:
        serving: Snapshot that serves; None before the first promotion, or where it is damaged.
        champion: Its model.
        predecessor: Snapshot that the line began from; a regret goes back to it.
        predecessor_model: Its model.
    """

    def __init__(self, clean: SelfHealingModel, history: SnapshotHistory) -> None:
        self._history = history
        self.serving: Snapshot | None = None
        self.predecessor: Snapshot | None = None
        self.champion = clean
        self.predecessor_model = clean

    @property
    def at_predecessor(self) -> bool:
        """Whether nothing of the line serves yet."""
        return self.serving == self.predecessor

    @property
    def serving_version(self) -> int:
        """Version that serves; 0 where none does."""
        return self.serving.version if self.serving else 0

    def serve(self, snapshot: Snapshot, model: SelfHealingModel) -> None:
        """Another snapshot serves."""
        self.serving = snapshot
        self.champion = model.requires_grad_(False)

    def begin_line(self) -> None:
        """A new line begins from what serves now, which is what it has to beat."""
        self.predecessor, self.predecessor_model = self.serving, self.champion

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "serving": self.serving.version if self.serving else None,
            "predecessor": self.predecessor.version if self.predecessor else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load again what `state` says was serving; nothing serves when it is damaged.

        The history must be restored before.
        """
        if state["serving"] is None:
            return
        serving = self._history.snapshots[state["serving"]]
        model = self._history.load_known(serving)
        if model is None:
            return
        self.serving = self.predecessor = serving
        self.champion = self.predecessor_model = model
        predecessor = self._history.snapshots.get(state["predecessor"])
        if predecessor is not None and predecessor != serving:
            model = self._history.load_known(predecessor)
            if model is not None:
                self.predecessor, self.predecessor_model = predecessor, model
