"""Erases a row that an operator names, as people have a right to."""

from __future__ import annotations

from bento_selfheal.core.ids import IdSigner
from bento_selfheal.errors import UnknownRow
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.store import SqlStore
from bento_selfheal.wire.messages import ErasureAnswer

UNKNOWN = "nothing is kept of a row with this name"
"""Said of whatever is not there, and why it is not is told nobody."""


class Eraser:
    """Takes a row out of the store, and out of the model store of this machine.

    Args:
        store: What keeps the row.
        signer: Reads prediction ids.
        keys: Hashes the clients' own keys.
        registry: The snapshots.
    """

    def __init__(
        self, store: SqlStore, signer: IdSigner, keys: KeyReader, registry: Registry
    ) -> None:
        self._store = store
        self._signer = signer
        self._keys = keys
        self._registry = registry

    def by_key(self, key: str, token: str, by: str) -> ErasureAnswer:
        """Erase a row by its own key.

        Args:
            key: The key.
            token: Name of the token that the row was predicted with.
            by: Who asks for it.

        Raises:
            UnknownRow: Nothing is kept of it.
            StoreError: The store is out of reach; nothing was changed.
        """
        return self._erase(by, key=self._keys.hash_one(key, token))

    def by_id(self, prediction_id: str, by: str) -> ErasureAnswer:
        """Erase a row by the id of its prediction; as `by_key`."""
        place = self._signer.read(prediction_id)
        if place is None:
            raise UnknownRow(UNKNOWN)
        return self._erase(by, place=place)

    def _erase(
        self, by: str, *, key: bytes | None = None, place: tuple[bytes, int] | None = None
    ) -> ErasureAnswer:
        done = self._store.erase(key=key, place=place, by=by)
        if done is None:
            raise UnknownRow(UNKNOWN)
        for snapshot in done.dropped:
            self._registry.delete(snapshot.tag)
        back = done.promotion
        return ErasureAnswer(erased=True, rolled_back_to=None if back is None else back.version)
