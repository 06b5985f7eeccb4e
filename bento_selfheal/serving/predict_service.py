"""The BentoML service that predicts, takes feedback and answers operators."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import bentoml
from pydantic import WrapValidator

from bento_selfheal.config.settings import load_settings
from bento_selfheal.deployment.memory import share_freed_memory
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.errors import InvalidInput, Overloaded, PackageError, StoreError
from bento_selfheal.internals import (
    hide_input,
    mount_below,
    refuse_bad_forms,
    refuse_unknown_fields,
)
from bento_selfheal.serving.answering.threads import usable_cores
from bento_selfheal.serving.http.auth import Role
from bento_selfheal.serving.http.operator_api import operations_app
from bento_selfheal.serving.http.replies import (
    Reply,
    TooManyItems,
    failed,
    refused,
    unavailable,
    unless_too_many,
)
from bento_selfheal.serving.models.served_models import ServedModels
from bento_selfheal.serving.openapi.page import ApiPage, more_bodies, with_inputs
from bento_selfheal.serving.operations import Operations
from bento_selfheal.telemetry.logs import log_with_bentoml
from bento_selfheal.wire.messages import (
    Facts,
    FeedbackCounts,
    FeedbackItem,
    Keys,
    Predictions,
    Rows,
)

SWITCH_SECONDS = 0.0005
"""The longest that the event loop waits for a thread that computes."""


class PredictBase:
    """Predicts, takes feedback, and shows operators where the service stands."""

    def __init_subclass__(cls) -> None:
        mount_below(cls, operations_app(functools.partial(_operations_of, cls)))

    roles: ClassVar[dict[str, frozenset[Role]]] = {}
    """Roles of which your own endpoints need one where tokens are set, by their whole path; an
    empty set needs none. Endpoints that are not named need the role `operate`."""

    _running: PredictBase | None = None

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        cores = usable_cores()
        one_thread_a_call()
        if settings.models:
            share_freed_memory()
        TooManyItems.limit = settings.max_rows
        self._models = ServedModels(settings, cores)
        type(self)._running = self
        sys.setswitchinterval(SWITCH_SECONDS)
        # A full collection walks all of torch's objects, 0.1 s in the middle of a request.
        gc.collect()
        gc.freeze()

    @bentoml.on_shutdown
    async def shut_down(self) -> None:
        """Finish what is computed, write what waits and stop the threads."""
        await self._models.close()

    async def __is_alive__(self) -> bool:
        """For `/livez`: false when a restart of this worker would repair it.

        `/readyz` needs no such answer: a worker takes requests only after `__init__`, which fails
        where no adapter verifies.
        """
        return self._models.alive

    @bentoml.api
    async def predict(self, rows: Rows, facts: Facts = None, keys: Keys = None) -> Predictions:
        """Predict a batch of rows. Send the labels by your own `keys`, or by the prediction ids.

        Large batches are faster as a NumPy file, with `Content-Type: application/x-npy`, or as an
        Arrow stream, with `application/vnd.apache.arrow.stream`. With `Accept: application/x-npy`
        the probabilities come back as a NumPy file too.
        """
        try:
            return await self._models.current.predictor.predict(rows, facts, keys)
        except InvalidInput as error:
            return refused(error)  # type: ignore[return-value] # BentoML sends it as it is
        except PackageError as error:
            return failed(error)  # type: ignore[return-value]
        except (Overloaded, StoreError) as error:
            return unavailable(error)  # type: ignore[return-value]

    async def reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer `/predict` from bytes to bytes; None where BentoML's way is needed."""
        return await self._models.current.predictor.reply(headers, body)

    @bentoml.api
    async def feedback(
        self, items: Annotated[list[FeedbackItem], WrapValidator(unless_too_many)]
    ) -> FeedbackCounts:
        """Send labels. Accepted labels are on disk when the response arrives.

        Many are faster as CSV, with `Content-Type: text/csv`, as Parquet, with
        `application/vnd.apache.parquet`, or as an Arrow stream.
        """
        return await self._models.current.taker.take(items)  # type: ignore[return-value] # BentoML sends it as is

    async def reply_to_labels(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer `/feedback` where the body is a table."""
        return await self._models.current.taker.take_table(headers, body)

    def __metrics__(self, content: str) -> str:
        """BentoML's own metrics, and the service's from the store: the same on every worker."""
        return self._models.metrics(content)


async def reply_of(cls: type[PredictBase], headers: Mapping[str, str], body: bytes) -> Reply | None:
    """Answer `/predict` by the worker of this process; None while it starts."""
    running = cls._running
    return None if running is None else await running.reply(headers, body)


async def reply_to_labels(
    cls: type[PredictBase], headers: Mapping[str, str], body: bytes
) -> Reply | None:
    """Answer a table of labels by the worker of this process; None while it starts."""
    running = cls._running
    return None if running is None else await running.reply_to_labels(headers, body)


def described_page(cls: type[PredictBase], page: dict[str, Any]) -> ApiPage | None:
    """BentoML's API page with the model's inputs; None where no worker of this process runs, or
    the endpoints are a user's own."""
    running = cls._running
    ours = cls.predict is PredictBase.predict and cls.feedback is PredictBase.feedback
    if running is None or not ours:
        return None
    worker = running._models.current.worker
    return with_inputs(page, worker.package, worker.rows.max_rows)


def models_of(cls: type[PredictBase]) -> ServedModels | None:
    """The models of this process; None while it starts."""
    running = cls._running
    return None if running is None else running._models


def bodies_of(cls: type[PredictBase]) -> list[str]:
    """Content types besides JSON that `/predict` takes of this model; none while it starts."""
    running = cls._running
    return [] if running is None else list(more_bodies(running._models.current.worker.package))


def count_refusal(cls: type[PredictBase], status: int) -> None:
    """Count a request that was refused with this status."""
    running = cls._running
    if running is not None:
        running._models.instruments.refused(status)


def _operations_of(cls: type[PredictBase]) -> Operations:
    running = cls._running
    if running is None:
        raise StoreError("the worker is still starting; try again in a moment")
    return running._models.current.worker.operations


# Rows and labels of users must not stand in the log.
hide_input(PredictBase.predict, PredictBase.feedback)
refuse_unknown_fields(PredictBase.predict, PredictBase.feedback)
refuse_bad_forms(PredictBase.predict, PredictBase.feedback)
