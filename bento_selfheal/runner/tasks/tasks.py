"""What the runner does beside its loop, in threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.feeds.feeds import Feeds
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.key_indexing import KeyIndexing
from bento_selfheal.runner.retention import Retention
from bento_selfheal.store import SqlStore
from bento_selfheal.webhooks.webhooks import Webhooks


class Tasks:
    """Retention, the index of keys, feeds of labels and webhooks.

    Args:
        store: The runner's.
        settings: The service's settings.
        folder: The state folder.
        token: The lease's fencing token; None while another runner leads.
    """

    def __init__(
        self,
        store: SqlStore,
        settings: Settings,
        folder: Path,
        token: Callable[[], int | None],
    ) -> None:
        self._token = token
        self._upkeep = Retention(store, settings), KeyIndexing(store)
        self._feeds = Feeds(store, settings, folder, token)
        self._webhooks = Webhooks(store, settings, token)

    def start(self) -> None:
        """Begin, in threads."""
        for task in self._upkeep:
            task.start(lambda: self._token() is not None)
        self._feeds.start()
        self._webhooks.start()

    def stop(self) -> None:
        """Finish what is in hand."""
        self._webhooks.stop()
        self._feeds.stop()
        for task in self._upkeep:
            task.thread.stop()

    def serve(self, package: Package) -> None:
        """Read labels as classes of this package, and tell of it, from now on."""
        self._feeds.serve(package.info.classes)
        self._webhooks.serve(package.tag)

    def threads(self) -> list[ThreadState]:
        """State of each thread."""
        own = [task.thread.state() for task in self._upkeep]
        return own + self._feeds.threads() + self._webhooks.threads()

    def shown(self) -> dict[str, list[dict[str, Any]]]:
        """What `/status` shows of feeds and of webhooks."""
        return {"feeds": self._feeds.state(), "webhooks": self._webhooks.state()}
