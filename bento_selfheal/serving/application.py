"""The ASGI application: BentoML behind the guard, with a fast path for `/predict`."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import click
from bentoml import Service
from bentoml.exceptions import BentoMLException
from bentoml.models import BentoModel
from starlette.middleware.cors import CORSMiddleware

from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.core.models.current import MODEL, about
from bento_selfheal.deployment.locations import pin_models
from bento_selfheal.errors import SettingsError, StoreError
from bento_selfheal.image import IN_CONTAINER, keep_clean, keep_importable, replace_dead_processes
from bento_selfheal.internals import (
    BentoMLContainer,
    BentoModelInfo,
    answer_refusals,
    server_context,
    supervise_by_monotonic_time,
)
from bento_selfheal.packaging.model_store import bentoml_home
from bento_selfheal.serving.http.access_rules import (
    ANY,
    OPEN,
    OPEN_BELOW,
    AccessRule,
    ByOrigin,
    ByToken,
    needs,
)
from bento_selfheal.serving.http.auth import Role, Tokens, check_address
from bento_selfheal.serving.http.bad_body import refusal
from bento_selfheal.serving.http.fast_path import FastPath, Handler
from bento_selfheal.serving.http.guard import Guard
from bento_selfheal.serving.http.request_metrics import by_route
from bento_selfheal.serving.http.slow_clients import serve_promptly
from bento_selfheal.serving.models.api_page import below, merged
from bento_selfheal.serving.models.router import ModelRouter
from bento_selfheal.serving.openapi.own_files import own_files_alone
from bento_selfheal.serving.openapi.page import ApiPage
from bento_selfheal.serving.predict_service import (
    PredictBase,
    bodies_of,
    count_refusal,
    described_page,
    models_of,
    reply_of,
    reply_to_labels,
)
from bento_selfheal.telemetry.otel import sample_rate
from bento_selfheal.wire.messages import LABEL_TABLES

log = logging.getLogger(__name__)


class SelfHealingService(Service[Any]):
    """A BentoML service that serves the packaged model its bento was built with, and stays up."""

    def __attrs_post_init__(self) -> None:
        """Take along every model, where there are several; the class names one of them."""
        super().__attrs_post_init__()
        settings = load_settings()
        if settings.models:
            tags = dict.fromkeys(own.model for own in settings.each.values())
            self.models[:] = [OneOfSeveral(tag) for tag in tags]
        else:
            self.models[:] = [
                Packaged(one.tag) if type(one) is BentoModel else one for one in self.models
            ]

    @property
    def bento(self) -> bentoml.Bento | None:
        """The bento that this is served from; BentoML sets it on each service of the bento."""
        return self._bento

    @bento.setter
    def bento(self, bento: bentoml.Bento | None) -> None:
        self._bento = bento
        if bento is not None:
            replace_dead_processes()
            source = Path(bento.path) / "src"
            keep_importable(source)
            keep_clean(source)
            pin_models([str(model.tag) for model in bento.info.all_models])

    def inject_config(self) -> None:
        """Put the configuration in force; without tokens, listen on this machine alone.

        `bentoml serve` calls this on the service that is about to listen, and on no other.

        Raises:
            click.ClickException: It is asked to listen further without tokens.
        """
        supervise_by_monotonic_time()
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

    @property
    def openapi_spec(self) -> Any:
        """The API page; it shows the inputs of the model once that is served."""
        names = load_settings().models
        if names and not MODEL.get():
            pages = {name: page for name in names if (page := self._page_of(name)) is not None}
            return ApiPage(merged(pages)) if pages else super().openapi_spec
        page = super().openapi_spec
        found = described_page(self.inner, page.asdict()) or page
        return ApiPage(below(MODEL.get(), found.asdict())) if MODEL.get() else found

    def _page_of(self, name: str) -> dict[str, Any] | None:
        """The page of one of several models; None where it does not serve."""
        page = super().openapi_spec.asdict()
        with about(name):
            try:
                found = described_page(self.inner, page)
            except StoreError:
                return None
        return page if found is None else found.asdict()

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application behind the guard, with the fast path for `/predict`."""
        settings = load_settings()
        app = super().to_asgi(is_main=is_main)
        by_route(app)
        own_files_alone(app)
        ours = inspect.getattr_static(self.inner, "predict") is vars(PredictBase)["predict"]
        bodies = functools.partial(bodies_of, self.inner) if ours else list[str]
        more: dict[str, Callable[[], Sequence[str]]] = {self._path("predict"): bodies}
        tables = inspect.getattr_static(self.inner, "feedback") is vars(PredictBase)["feedback"]
        if tables:
            more[self._path("feedback")] = lambda: LABEL_TABLES
        answer_refusals(app, functools.partial(refusal, more=more))
        server, cors = f"BentoML Service/{self.name}", _cors_of(app)
        if tables:
            answer = functools.partial(reply_to_labels, self.inner)
            app = self._fast(app, "feedback", answer, settings, server, LABEL_TABLES)
        if ours:
            app = self._fast(
                app, "predict", functools.partial(reply_of, self.inner), settings, server
            )
        if settings.models:
            own = {str(api.route).strip("/") for api in self.apis.values()} - {
                "predict",
                "feedback",
            }
            models = functools.partial(models_of, self.inner)
            app = ModelRouter(app, settings.models, self.path_prefix or "", own, models)
        # Where it is a part of a larger application, only its processes connect, over a socket.
        rule = self._rule(settings, cors) if is_main else None
        count, most = functools.partial(count_refusal, self.inner), settings.body_megabytes
        serve_promptly(settings.request_seconds, count)
        return Guard(app, most=int(most * 1e6), rule=rule, server=server, count=count)

    def _path(self, endpoint: str) -> str:
        return f"{self.path_prefix or ''}/{endpoint}"

    def _fast(
        self,
        app: Any,
        endpoint: str,
        answer: Handler,
        settings: Settings,
        server: str,
        kinds: Collection[str] | None = None,
    ) -> FastPath:
        return FastPath(
            app,
            path=self._path(endpoint),
            answer=answer,
            server=server,
            traced=sample_rate() > 0,
            logged=settings.access_log,
            own_middleware=bool(self.middlewares),
            kinds=kinds,
        )

    def _needed(self, settings: Settings) -> tuple[dict[str, frozenset[Role]], tuple[str, ...]]:
        """The roles that paths need, and the folders that need none, below every model too."""
        prefix = self.path_prefix or ""
        bases = [prefix, *(f"{prefix}/{name}" for name in settings.models)]
        paths: dict[str, frozenset[Role]] = {}
        for base in bases:
            paths |= needs(base, metrics=settings.open_metrics)
            paths |= {
                base + path.removeprefix(prefix): roles for path, roles in self.inner.roles.items()
            }
            if settings.models:  # pages and where they redirect to, without figures
                paths |= {base: OPEN, f"{base}/": OPEN, f"{base}/docs": ANY}
        return paths, tuple(base + path for base in bases for path in OPEN_BELOW)

    def _rule(self, settings: Settings, cors: CORSMiddleware | None) -> AccessRule:
        """Which requests may reach what.

        Raises:
            SettingsError: The service would listen beyond this machine without any token.
        """
        tokens = Tokens(settings)
        if tokens:
            paths, folders = self._needed(settings)
            return ByToken(tokens, paths, folders, cors=cors is not None)
        host = _listens_on()
        if host is not None:
            check_address(host, settings)
        if server_context.worker_index == 1:
            log.warning("NO TOKENS: whoever reaches %s may predict, send labels and operate; see "
                        "docs/security.md", host or "this service")  # fmt: skip
        allowed = cors.is_allowed_origin if cors is not None else lambda _: False
        return ByOrigin(names=settings.open_to_all, allowed=allowed)


class Packaged(BentoModel):
    """A model of a service; where it is missing, `bentoml build` and `serve` say what to do."""

    def to_info(self, alias: str | None = None) -> BentoModelInfo:
        """What a bento says of the model.

        Raises:
            BentoMLException: It is not packaged.
        """
        with self._packaged():
            return super().to_info(alias)

    def resolve(self, *args: Any, **kwargs: Any) -> Any:
        """The model.

        Raises:
            BentoMLException: It is not packaged.
        """
        with self._packaged():
            return super().resolve(*args, **kwargs)

    @contextmanager
    def _packaged(self) -> Iterator[None]:
        try:
            yield
        except BentoMLException as error:
            raise BentoMLException(
                f"there is no packaged model {self.tag} in {bentoml_home()}. Package one first, "
                "with `bento-selfheal package-demo`, `bento-selfheal package FILE --label COLUMN "
                "--name NAME` or package_model() (docs/tutorial.md), and name it: "
                "SELFHEAL_MODEL=NAME:latest. `bentoml models list` lists them"
            ) from error


class OneOfSeveral(Packaged):
    """A model of a service with several: where it is missing, the others are served all the same.

    `bentoml build` still refuses to build without it.
    """

    def resolve(self, *args: Any, **kwargs: Any) -> Any:
        """The model; None where it is not there, which its part of the service reports."""
        try:
            return super().resolve(*args, **kwargs)
        except BentoMLException as error:
            log.error("the model %s is missing: %s", self.tag, error)
            return None


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
    with socket.socket(fileno=os.dup(fd)) as listening:
        if listening.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return str(listening.getsockname()[0])
