"""The two BentoML services, put together: a user's `service.py` subclasses both bases.

```python
settings = load_settings()

@bentoml.service(**runner_options(settings))
class HealingRunner(HealingRunnerBase): ...

@bentoml.service(**predict_options(settings))
class SelfHealing(PredictBase):
    model = bentoml.models.BentoModel(settings.model)
    runner = bentoml.depends(HealingRunner)
```
"""

from __future__ import annotations

import functools
import gc
import inspect
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import bentoml
import numpy as np
import orjson
import torch
from bentoml import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from numpy.typing import NDArray
from starlette.responses import JSONResponse

from . import npy
from . import telemetry as names
from .config import Settings, load_settings
from .courtesy import stand_back
from .deploy import pin_models, prepare
from .errors import InvalidInput, StoreError
from .image import replace_dead_processes
from .lane import FastLane, Reply
from .logs import log_with_bentoml
from .meters import WorkerMeters, exposition, open_meter
from .operations import Operations, operations_app
from .predict import Answer, Worker
from .records import FeedbackOutcome
from .runner import Runner
from .telemetry import Telemetry, observe_status
from .wire import (
    CLASSES_HEADER,
    NPY,
    REQUEST_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    FeedbackCounts,
    FeedbackItem,
    Predictions,
    Rows,
)

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005


class SelfHealingService(Service[Any]):
    """A BentoML service that serves the packaged model its bento was built with, and stays up."""

    @property
    def bento(self) -> bentoml.Bento | None:
        """The bento that this is served from; BentoML sets it on each service of the bento."""
        return self._bento

    @bento.setter
    def bento(self, bento: bentoml.Bento | None) -> None:
        self._bento = bento
        if bento is not None:
            replace_dead_processes()
            pin_models([str(model.tag) for model in bento.info.all_models])

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application, with `/predict` answered in a lane in front of it."""
        app = super().to_asgi(is_main=is_main)
        if inspect.getattr_static(self.inner, "predict") is not vars(PredictBase)["predict"]:
            return app  # the user's own
        return FastLane(
            app,
            path=f"{self.path_prefix or ''}/predict",
            answer=functools.partial(_answer_of, self.inner),
            server=f"BentoML Service/{self.name}",
            traced=_sampled() > 0,
            logged=load_settings().access_log,
            own_middleware=bool(self.middlewares),
        )


def predict_options(settings: Settings) -> dict[str, Any]:
    """Options of `@bentoml.service` for the service that predicts."""
    return {
        "service_class": SelfHealingService,
        "workers": settings.workers,
        # Readiness is the predict worker's own: a dead runner must not take it out of rotation.
        "runner_probe": {"enabled": False},
        **_tracing(),
    }


def runner_options(settings: Settings) -> dict[str, Any]:
    """Options of `@bentoml.service` for the healing runner: one process."""
    return {"workers": 1, **_tracing()}


class HealingRunnerBase:
    """Watches, heals, proves and undoes, in a background thread of its own process."""

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        torch.set_num_threads(1)
        stand_back(settings.runner_nice)
        self._runner = Runner(settings, _open_telemetry())
        observe_status(open_meter("selfheal-runner"), lambda: self._runner.status)
        self._runner.start()

    @bentoml.on_deployment
    @staticmethod
    def deploy() -> None:
        """Make the store ready, once, before any worker starts."""
        prepare(load_settings())

    @bentoml.on_shutdown
    def shut_down(self) -> None:
        """Finish the step in hand and hand the lease over."""
        self._runner.stop()

    @bentoml.api
    def describe(self) -> dict[str, Any]:
        """What the runner last showed of itself."""
        return self._runner.status


class PredictBase:
    """Predicts, takes feedback, and shows operators where the service stands."""

    def __init_subclass__(cls) -> None:
        # BentoML takes mounted apps off the very class that it decorates.
        cls.__bentoml_mounted_apps__ = [  # type: ignore[attr-defined]
            (operations_app(functools.partial(_operations_of, cls)), "/", None)
        ]

    _running: PredictBase | None = None

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        torch.set_num_threads(1)
        self._telemetry = _open_telemetry()
        self._worker = Worker(settings, self._telemetry)
        self._worker.start()
        self._classes = json.dumps(self._worker.package.info.classes)
        store = self._worker.store
        self._meters = WorkerMeters(
            open_meter("selfheal"), self._worker.describe, lambda: store.leader() is not None
        )
        type(self)._running = self
        # The event loop waits for a thread that computes no longer than this.
        sys.setswitchinterval(SWITCH_SECONDS)
        # A full collection walks all of torch's objects, 0.1 s in the middle of a request.
        gc.collect()
        gc.freeze()

    @bentoml.on_shutdown
    def shut_down(self) -> None:
        """Write what waits and stop the threads."""
        self._meters.stop()
        self._worker.stop()

    async def __is_alive__(self) -> bool:
        """For `/livez`: false when a restart of this worker would mend it.

        `/readyz` needs no such answer: a worker takes requests only after `__init__`, which fails
        where no adapter verifies.
        """
        return self._worker.alive

    @bentoml.api
    async def predict(self, rows: Rows) -> Predictions:
        """Answer a batch of rows. Keep the ids: labels come back with them.

        Large batches go faster as a NumPy file, `Content-Type: application/x-npy`; with
        `Accept: application/x-npy` the probabilities come back as one.
        """
        try:
            checked = self._worker.rows.read(rows)
        except InvalidInput as error:
            return _refused(error)
        fields = self._fields(self._traced(checked))
        return Predictions(**{**fields, "probabilities": fields["probabilities"].tolist()})

    def _traced(self, rows: NDArray[np.float32]) -> Answer:
        """The answer, in a span where spans are recorded."""
        if not self._telemetry.enabled:
            return self._worker.answer(rows)
        with self._telemetry.span(names.PREDICT, {names.ROWS: len(rows)}) as span:
            answer = self._worker.answer(rows)
            span.set_attribute(names.VERSION, answer.champion.version)
            return answer

    def _fields(self, answer: Answer) -> dict[str, Any]:
        """The fields of `Predictions`."""
        return {
            "prediction_ids": answer.ids,
            "probabilities": answer.probabilities,
            "decisions": self._worker.decide(answer.probabilities),
            "threshold": self._worker.follower.threshold,
            "verified": self._worker.follower.verified,
            "model_version": answer.champion.version,
        }

    def _numbers(self, answer: Answer) -> Reply:
        """The probabilities as a NumPy file; what else there is to say stands in headers."""
        headers = {
            REQUEST_HEADER: answer.token,
            CLASSES_HEADER: self._classes,
            THRESHOLD_HEADER: repr(self._worker.follower.threshold),
            VERIFIED_HEADER: str(self._worker.follower.verified).lower(),
            VERSION_HEADER: str(answer.champion.version),
        }
        return Reply(npy.dump(answer.probabilities), media_type=NPY, headers=headers)

    def reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer `/predict` from bytes to bytes; None where BentoML's way is needed.

        Args:
            headers: Content-Type tells JSON or a NumPy file of numbers ``(n, features)``; with
                Accept a NumPy file of the probabilities is asked for.
            body: The request's body.
        """
        reader = self._worker.rows
        try:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == NPY:
                rows = reader.read_npy(body)
            elif kind in ("", "application/json"):
                read = reader.read_json(body)
                if read is None:
                    return None
                rows = read
            else:
                return None
        except InvalidInput as error:
            return Reply(orjson.dumps(error.body()), _status(error))
        answer = self._traced(rows)
        if NPY in headers.get("accept", ""):
            return self._numbers(answer)
        fields = self._fields(answer)
        return Reply(orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY))

    @bentoml.api
    async def feedback(self, items: list[FeedbackItem]) -> FeedbackCounts:
        """Give labels. Accepted ones are on disk when the answer comes."""
        with self._telemetry.span(names.FEEDBACK, {names.ROWS: len(items)}) as span:
            try:
                answer = await anyio.to_thread.run_sync(
                    self._worker.feedback.accept, items, self._telemetry.traceparent()
                )
            except InvalidInput as error:
                return _refused(error)
            except StoreError as error:
                return _unavailable(error)
            span.set_attributes({f"{names.ITEMS}.{k}": v for k, v in answer.counts.items()})
        self._meters.feedback({k.value: v for k, v in answer.counts.items()})
        return FeedbackCounts(
            accepted=answer.counts[FeedbackOutcome.ACCEPTED],
            already_known=answer.counts[FeedbackOutcome.KNOWN],
            unknown=answer.counts[FeedbackOutcome.UNKNOWN],
            unmatched=answer.unmatched,
            in_conflict=answer.counts[FeedbackOutcome.CONFLICT],
            unknown_ids=answer.unknown,
            conflicts=answer.conflicts,
        )

    def __metrics__(self, content: str) -> str:
        """BentoML's own metrics, and ours from the store: the same on every worker."""
        try:
            status = self._worker.operations.status()
        except StoreError as error:
            log.warning("/metrics without the runner's figures: %s", error)
            return content
        return content + exposition(status)


def _hide_input(*methods: Any) -> None:
    """Let errors of validation name the field alone: BentoML writes them to the log."""
    for method in methods:
        method.input_spec.model_config["hide_input_in_errors"] = True
        method.input_spec.model_rebuild(force=True)


_hide_input(PredictBase.predict, PredictBase.feedback)


def _operations_of(cls: type[PredictBase]) -> Operations:
    running = cls._running
    if running is None:
        raise StoreError("the worker is still starting")
    return running._worker.operations


def _answer_of(cls: type[PredictBase], headers: Mapping[str, str], body: bytes) -> Reply | None:
    running = cls._running
    return None if running is None else running.reply(headers, body)


def _refused(error: InvalidInput) -> Any:
    return JSONResponse(error.body(), _status(error))


def _status(error: InvalidInput) -> int:
    return 413 if error.kind == "too_many" else 400


def _unavailable(error: StoreError) -> Any:
    return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})


def _open_telemetry() -> Telemetry:
    return Telemetry(BentoMLContainer.tracer_provider.get(), enabled=_sampled() > 0)


def _sampled() -> float:
    """Share of requests that BentoML's `tracing` settings record."""
    return float(BentoMLContainer.tracing.sample_rate.get() or 0.0)


def _tracing() -> dict[str, Any]:
    """BentoML's `tracing` settings from the standard OTEL_* variables; empty when unset."""
    env = os.environ
    base = env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (
        base and base.rstrip("/") + "/v1/traces"
    )
    if not endpoint or env.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return {}
    if env.get("OTEL_TRACES_SAMPLER", "").endswith("always_off"):
        return {}
    ratio = "ratio" in env.get("OTEL_TRACES_SAMPLER", "")
    rate = float(env.get("OTEL_TRACES_SAMPLER_ARG", "1")) if ratio else 1.0
    return {
        "tracing": {
            "exporter_type": "otlp",
            "sample_rate": rate,
            "otlp": {"protocol": "http", "endpoint": endpoint},
        }
    }
