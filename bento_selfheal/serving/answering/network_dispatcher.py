"""Computes requests for a network: their inputs are embedded, and the rows that makes answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from bento_selfheal.config.settings import Settings
from bento_selfheal.serving.answering.batching import Batching
from bento_selfheal.serving.answering.computing import Computed, Computing
from bento_selfheal.serving.answering.dispatcher import Record
from bento_selfheal.serving.answering.threads import threads_of_heavy
from bento_selfheal.serving.reading.network_inputs import Asked
from bento_selfheal.serving.reading.raw_inputs import RawInputs
from bento_selfheal.serving.reading.request_embedder import RequestEmbedder
from bento_selfheal.serving.worker import Answer


class NetworkDispatcher:
    """Computes requests in batches, in a thread: decoding and embedding hold nobody up.

    Args:
        computing: Calls the champion with rows.
        embedder: Makes rows of inputs.
        raw: Keeps inputs as they came.
        record: Issues the ids of a request and logs it, in the event loop's thread.
        settings: Of the service.
        cores: Cores that all workers of the service may use together.

    Attributes:
        threads: Threads that each call of the network takes.
    """

    def __init__(
        self,
        computing: Computing,
        embedder: RequestEmbedder,
        raw: RawInputs,
        record: Record,
        settings: Settings,
        cores: int,
    ) -> None:
        self._computing = computing
        self._record = record
        self._embedder = embedder
        self._raw = raw
        self.threads = threads_of_heavy(settings, cores)
        torch.set_num_threads(self.threads)
        self._batching = Batching(
            self._compute_all, inputs_of, max_batch_size=settings.max_batch_size,
            max_latency=settings.max_latency_ms / 1000,
        )  # fmt: skip

    async def answer(self, asked: Asked, keys: bytes = b"") -> Answer:
        """The recorded answer to the inputs of one request, as of `Dispatcher.answer`.

        Raises:
            InvalidInput: An input is none, or the network cannot take it; it is named.
            PackageError: The network fails, or answers with something else than probabilities.
            Overloaded: It would be answered too late, or the service stops.
        """
        return self._record(await self._batching.answer((asked, keys)), keys)

    async def close(self) -> None:
        """Let the batch in hand finish, and refuse what waits."""
        await self._batching.close()

    def _compute_all(self, requests: Sequence[tuple[Asked, bytes]]) -> list[Computed | Exception]:
        embedded = self._embedder.embed_all([asked for asked, _ in requests])
        good = [
            (rows, keys)
            for rows, (_, keys) in zip(embedded, requests, strict=True)
            if not isinstance(rows, Exception)
        ]
        computed = iter(self._computing.compute_all(good) if good else [])
        return [
            rows if isinstance(rows, Exception) else self._with_inputs(next(computed), asked)
            for rows, (asked, _) in zip(embedded, requests, strict=True)
        ]

    def _with_inputs(self, computed: Computed | Exception, asked: Asked) -> Computed | Exception:
        if isinstance(computed, Exception):
            return computed
        inputs = self._raw.of(asked)
        return replace(computed, inputs=inputs) if inputs else computed


def inputs_of(request: tuple[Asked, bytes]) -> int:
    """How many inputs a request has."""
    return len(request[0])
