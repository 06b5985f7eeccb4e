"""One model of a predict process: its worker, and what turns requests into its answers."""

from __future__ import annotations

from bento_selfheal.config.settings import Settings
from bento_selfheal.serving.answering.dispatcher import Dispatcher
from bento_selfheal.serving.answering.network_dispatcher import NetworkDispatcher
from bento_selfheal.serving.answering.predictor import Predictor
from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.serving.label_taker import LabelTaker
from bento_selfheal.serving.reading.network_inputs import NetworkInputs
from bento_selfheal.serving.reading.raw_inputs import RawInputs
from bento_selfheal.serving.worker import Worker
from bento_selfheal.serving.worker_metrics import Instruments, WorkerMeters
from bento_selfheal.telemetry.spans import Telemetry


class ServedModel:
    """Answers for one model; it is started when it is made.

    Args:
        settings: The model's settings; its store must be prepared.
        cores: Cores that all workers of the service may use together.
        telemetry: Records spans.
        instruments: The metrics of the process.

    Raises:
        StoreError: No package was deployed to the store.
    """

    def __init__(
        self, settings: Settings, cores: int, telemetry: Telemetry, instruments: Instruments
    ) -> None:
        self.worker = Worker(settings, telemetry)
        self._dispatcher = _dispatcher_of(self.worker, settings, cores)
        self.predictor = Predictor(self.worker, self._dispatcher, telemetry)
        self.worker.start()
        store = self.worker.store
        self._meters = WorkerMeters(
            instruments, self.worker.describe, lambda: store.leader() is not None,
            self.worker.operations.unread_seconds, settings.name,
        )  # fmt: skip
        rate_limit = LabelRateLimit(
            store, settings.source_labels_per_minute, settings.token_labels_per_minute
        )
        self.taker = LabelTaker(
            self.worker.feedback, rate_limit, telemetry, self._meters, settings.max_rows,
            settings.token_sources,
        )  # fmt: skip

    async def close(self) -> None:
        """Finish what is computed, write what waits and stop the threads."""
        await self._dispatcher.close()
        self._meters.thread.stop()
        self.worker.stop()

    @property
    def alive(self) -> bool:
        """Whether every thread behind the answers runs."""
        return self.worker.alive and self._meters.thread.alive


def _dispatcher_of(
    worker: Worker, settings: Settings, cores: int
) -> Dispatcher | NetworkDispatcher:
    if worker.network is not None and isinstance(worker.rows, NetworkInputs):
        raw = RawInputs(worker.rows.source, settings.log_inputs)
        return NetworkDispatcher(
            worker.computing, worker.network, raw, worker.record, settings, cores
        )
    rows = worker.package.reference_rows
    return Dispatcher(worker.computing, rows, worker.record, settings, cores)
