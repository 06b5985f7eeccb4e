"""What serves, what it replaced, and the models of both."""

from __future__ import annotations

from typing import Any

from bento_selfheal.core.records import Snapshot
from bento_selfheal.healing.champion.canary import Canary
from bento_selfheal.healing.champion.snapshots import SnapshotHistory
from bento_selfheal.model import SelfHealingModel


class Lineage:
    """The champion, and the predecessor that its line of challengers began from.

    Args:
        clean: The packaged model, which serves before any promotion is known.
        history: The snapshots known.
        canary: What answers a share of the requests before it.

    Attributes:
        canary: As given.
        serving: Snapshot that serves; None before the first promotion, or where it is damaged.
        champion: Its model.
        predecessor: Snapshot that the line began from; a regret goes back to it.
        predecessor_model: Its model.
    """

    def __init__(self, clean: SelfHealingModel, history: SnapshotHistory, canary: Canary) -> None:
        self._history = history
        self.canary = canary
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

    @property
    def needed(self) -> set[int]:
        """Versions that serve, or may serve again."""
        known = {one.version for one in (self.serving, self.predecessor) if one is not None}
        return known | ({self.canary.version} if self.canary.now is not None else set())

    def answering(self, name: bytes) -> tuple[SelfHealingModel, int]:
        """The model that answers a request, as in a worker, and its version.

        Args:
            name: Hash of the first row's own key, or the request's key.
        """
        if self.canary.now is not None and self.canary.now.takes(name):
            return self.canary.now.model, self.canary.version
        return self.champion, self.serving_version

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
