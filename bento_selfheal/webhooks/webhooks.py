"""All webhooks of a runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.store import SqlStore
from bento_selfheal.webhooks.bodies import Service
from bento_selfheal.webhooks.hook import HookThread, Leader


class Webhooks:
    """Tells receivers of events while the runner leads.

    Args:
        store: Where events are.
        settings: With the webhooks.
        token: The lease's fencing token; None while another runner leads.
    """

    def __init__(
        self, store: SqlStore, settings: Settings, token: Callable[[], int | None]
    ) -> None:
        self._name = settings.name
        self._store = store
        self._token = token
        self._service: Service | None = None
        self._hooks = [HookThread(hook, store, self._leader) for hook in settings.webhooks]

    def start(self) -> None:
        """Begin, in threads."""
        for hook in self._hooks:
            hook.thread.start()

    def stop(self) -> None:
        """Finish the events in hand."""
        for hook in self._hooks:  # all at once: one that hangs holds up no other
            hook.thread.ask_to_stop()
        for hook in self._hooks:
            hook.stop()

    def serve(self, package: str) -> None:
        """Tell of the service with this package from now on.

        Raises:
            LeaseLost: Another runner leads now.
            StoreError: The store is out of reach.
        """
        self._service = Service(self._store.meta("store_id") or "", package, self._name)
        for hook in self._hooks:
            hook.begin()

    def threads(self) -> list[ThreadState]:
        """The state of each thread."""
        return [hook.thread.state() for hook in self._hooks]

    def state(self) -> list[dict[str, Any]]:
        """What `/status` shows of each webhook."""
        return [hook.state() for hook in self._hooks]

    def _leader(self) -> Leader | None:
        token = self._token()
        if token is None or self._service is None:
            return None
        return Leader(token, self._service)
