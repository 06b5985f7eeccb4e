"""The lease: at most one runner leads, and it keeps leading through a long heal."""

from __future__ import annotations

import logging
import os
import secrets
import socket

from bento_selfheal.errors import LeaseLost, StoreError
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)


class Lease:
    """This runner's claim to lead.

    Args:
        store: Where the lease is.
        seconds: How long a leader that falls silent keeps leading.
    """

    def __init__(self, store: SqlStore, seconds: float) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.token: int | None = None
        """Fences what a former leader writes; None while this runner does not lead."""
        self._store = store
        self._seconds = seconds

    @property
    def held(self) -> bool:
        """Whether this runner leads, as far as it knows."""
        return self.token is not None

    def acquire(self) -> bool:
        """Lead, if nobody else does.

        Raises:
            StoreError: The store is out of reach.
        """
        self.token = self._store.acquire_lease(self.owner, self._seconds)
        if self.held:
            log.info("%s leads", self.owner)
        return self.held

    def renew(self) -> None:
        """Keep leading; stop where another runner led in the meantime.

        Raises:
            StoreError: The store is out of reach.
        """
        token = self.token
        if token is not None and self._store.acquire_lease(self.owner, self._seconds) != token:
            self.token = None  # the next step begins from the other one's checkpoint

    def require(self) -> int:
        """The fencing token.

        Raises:
            LeaseLost: This runner does not lead.
        """
        if self.token is None:
            raise LeaseLost("the lease ran out during the step")
        return self.token

    def forget(self) -> None:
        """Take note that another runner leads."""
        self.token = None

    def release(self) -> None:
        """Let another runner lead at once; without the store, the lease runs out by itself."""
        if self.token is None:
            return
        self.token = None
        try:
            self._store.release_lease(self.owner)
        except StoreError as error:
            log.warning("the lease was not released and expires by itself: %s", error)
