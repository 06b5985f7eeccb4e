"""All feeds of a runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.core.records import Label
from bento_selfheal.errors import InvalidInput
from bento_selfheal.feeds.feed import FeedThread, Leader
from bento_selfheal.feeds.folder import FolderSource
from bento_selfheal.feeds.query import QuerySource
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.labelling.key_hash import KeyHasher
from bento_selfheal.labelling.records import RecordReader
from bento_selfheal.store import SqlStore


class Feeds:
    """Fetches labels while the runner leads.

    Args:
        store: Where labels go.
        settings: With the feeds.
        state_dir: Where rows that are not kept are set aside.
        token: The lease's fencing token; None while another runner leads.
    """

    def __init__(
        self,
        store: SqlStore,
        settings: Settings,
        state_dir: Path,
        token: Callable[[], int | None],
    ) -> None:
        self._store = store
        self._days = settings.feedback_days
        self._token = token
        self._reader: RecordReader | None = None
        self._feeds = [
            FeedThread(
                feed, FolderSource(feed) if feed.folder is not None else QuerySource(feed), store,
                self._leader, state_dir / "feeds",
            )
            for feed in settings.feeds
        ]  # fmt: skip

    def start(self) -> None:
        """Begin, in threads."""
        for feed in self._feeds:
            feed.thread.start()

    def stop(self) -> None:
        """Finish the parts in hand."""
        for feed in self._feeds:
            feed.thread.stop()

    def serve(self, classes: Sequence[Label]) -> None:
        """Read labels as classes of this model from now on."""
        secret = self._store.meta("secret") or ""
        self._reader = RecordReader(
            IdSigner(secret), KeyHasher(secret), LabelReader(classes), _no_rows, self._days
        )

    def threads(self) -> list[ThreadState]:
        """The state of each thread."""
        return [feed.thread.state() for feed in self._feeds]

    def state(self) -> list[dict[str, Any]]:
        """What `/status` shows of each feed."""
        return [feed.state() for feed in self._feeds]

    def _leader(self) -> Leader | None:
        token = self._token()
        if token is None or self._reader is None:
            return None
        return Leader(token, self._reader)


def _no_rows(_: Any, loc: tuple[str | int, ...]) -> Any:
    raise InvalidInput(loc, "a feed names rows by their keys", "features")
