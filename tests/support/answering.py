"""A worker and what answers with it, as the tests of single requests use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.answering.dispatcher import Dispatcher
from bento_selfheal.serving.answering.predictor import Predictor
from bento_selfheal.serving.worker import Worker
from bento_selfheal.telemetry.spans import Telemetry


@contextmanager
def quiet_worker(package: Package, state: Path, **more: Any) -> Iterator[Worker]:
    """A worker that is not followed or logged by any thread."""
    settings = Settings(model=package.tag, state_dir=state, monitor=True, **more)
    prepare(settings)
    worker = Worker(settings, Telemetry())
    yield worker
    worker.feedback.stop()
    worker.store.close()


def predictor_of(worker: Worker) -> Predictor:
    rows = worker.package.reference_rows
    dispatcher = Dispatcher(worker.computing, rows, worker.record, Settings(), cores=1)
    return Predictor(worker, dispatcher, Telemetry())
