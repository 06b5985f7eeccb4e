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
import math
import os
import socket
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import anyio.to_thread
import bentoml
import click
import numpy as np
import orjson
import torch
from bentoml import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from numpy.typing import NDArray
from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from . import npy
from . import telemetry as names
from .access import ASKED_BY, Role, Tokens, check_address
from .config import Settings, load_settings
from .courtesy import stand_back
from .deploy import pin_models, prepare
from .errors import InvalidInput, SettingsError, StoreError
from .guard import OPEN_BELOW, ByOrigin, ByToken, Guard, Rule, needs
from .image import IN_CONTAINER, replace_dead_processes
from .lane import FastLane, Reply
from .logs import log_with_bentoml
from .meters import WorkerMeters, exposition, open_meter
from .operations import Operations, operations_app
from .patience import serve_promptly
from .predict import Answer, Worker
from .quota import LabelQuota, Wait
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

    def inject_config(self) -> None:
        """Put the configuration in force; without tokens, this machine alone is listened to.

        `bentoml serve` asks this of the service that is about to listen, and of no other.

        Raises:
            click.ClickException: It is to listen further without tokens, and not told to.
        """
        settings = load_settings()
        # A container has a network of its own: there the loopback reaches nobody.
        if not (IN_CONTAINER or settings.open_to_all or Tokens(settings)):
            self.config.setdefault("http", {}).setdefault("host", "127.0.0.1")
        super().inject_config()
        context = click.get_current_context(silent=True)
        if context is not None and "host" in context.params:
            host = context.params["host"] or BentoMLContainer.http.host.get()
            try:
                check_address(host, settings)
            except SettingsError as error:
                raise click.ClickException(str(error)) from error

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application with the guard in front, and `/predict` answered in a lane."""
        settings = load_settings()
        app = super().to_asgi(is_main=is_main)
        server, cors = f"BentoML Service/{self.name}", _cors_of(app)
        if inspect.getattr_static(self.inner, "predict") is vars(PredictBase)["predict"]:
            app = FastLane(
                app,
                path=f"{self.path_prefix or ''}/predict",
                answer=functools.partial(_answer_of, self.inner),
                server=server,
                traced=_sampled() > 0,
                logged=settings.access_log,
                own_middleware=bool(self.middlewares),
            )
        # What is a part of a larger application is asked by its processes alone, over a socket.
        rule = self._rule(settings, cors) if is_main else None
        count, most = functools.partial(_count_refusal, self.inner), settings.body_megabytes
        serve_promptly(settings.request_seconds, count)
        return Guard(app, most=int(most * 1e6), rule=rule, server=server, count=count)

    def _rule(self, settings: Settings, cors: CORSMiddleware | None) -> Rule:
        """Who may ask what.

        Raises:
            SettingsError: Anybody could ask anything, from beyond this machine.
        """
        tokens = Tokens(settings)
        if tokens:
            prefix = self.path_prefix or ""
            paths = {**needs(prefix, metrics=settings.open_metrics), **self.inner.roles}
            below = tuple(prefix + path for path in OPEN_BELOW)
            return ByToken(tokens, paths, below, cors=cors is not None)
        host = _listens_on()
        if host is not None:
            check_address(host, settings)
        if server_context.worker_index == 1:
            log.warning("NO TOKENS: whoever reaches %s may predict, teach and operate "
                        "(docs/security.md)", host or "this service")  # fmt: skip
        allowed = cors.is_allowed_origin if cors is not None else lambda _: False
        return ByOrigin(names=settings.open_to_all, allowed=allowed)


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


class _TooMany(list[FeedbackItem]):
    """Stands for more items than a request may carry, of which only the number counts: to look at a
    million of them, and to tell what is wrong with each, would hold everybody up."""

    limit: ClassVar[float] = math.inf

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def _unless_too_many(items: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(items, list) and len(items) > _TooMany.limit:
        return _TooMany(len(items))
    return handler(items)


class PredictBase:
    """Predicts, takes feedback, and shows operators where the service stands."""

    def __init_subclass__(cls) -> None:
        # BentoML takes mounted apps off the very class that it decorates.
        cls.__bentoml_mounted_apps__ = [  # type: ignore[attr-defined]
            (operations_app(functools.partial(_operations_of, cls)), "/", None)
        ]

    roles: ClassVar[dict[str, frozenset[Role]]] = {}
    """What endpoints of a user's own ask for where there are tokens, by their whole path; an empty
    set for nothing. Those that are not named ask for a token that may operate."""

    _running: PredictBase | None = None

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        torch.set_num_threads(1)
        self._telemetry = _open_telemetry()
        self._worker = Worker(settings, self._telemetry)
        self._worker.start()
        _TooMany.limit = settings.max_rows
        self._quota = LabelQuota(
            settings.source_labels_per_minute, settings.token_labels_per_minute
        )
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
    async def feedback(
        self, items: Annotated[list[FeedbackItem], WrapValidator(_unless_too_many)]
    ) -> FeedbackCounts:
        """Give labels. Accepted ones are on disk when the answer comes."""
        with self._telemetry.span(names.FEEDBACK, {names.ROWS: len(items)}) as span:
            if (wait := self._quota.take(items, ASKED_BY.get())) is not None:
                return _too_many(wait)
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


def _count_refusal(cls: type[PredictBase], status: int) -> None:
    running = cls._running
    if running is not None:
        running._meters.refused(status)


def _cors_of(app: Any) -> CORSMiddleware | None:
    """BentoML's CORS as it is configured, to ask what it allows; None where it is off."""
    layer = next((m for m in app.user_middleware if m.cls is CORSMiddleware), None)
    return None if layer is None else CORSMiddleware(app, *layer.args, **layer.kwargs)


def _listens_on() -> str | None:
    """Address of the socket that BentoML gave this worker; None where it gave none."""
    context = click.get_current_context(silent=True)
    fd = None if context is None else context.params.get("fd")
    if fd is None:
        return None
    with socket.socket(fileno=os.dup(fd)) as given:
        if given.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return str(given.getsockname()[0])


def _refused(error: InvalidInput) -> Any:
    return JSONResponse(error.body(), _status(error))


def _status(error: InvalidInput) -> int:
    return 413 if error.kind == "too_many" else 400


def _too_many(wait: Wait) -> Any:
    return JSONResponse({"error": wait.why}, 429, headers={"Retry-After": str(wait.seconds)})


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
