"""Sends a request to the model that its path names, where one service serves several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from bento_selfheal.core.models.current import MODEL
from bento_selfheal.core.text import shown
from bento_selfheal.dashboard.page import models_page
from bento_selfheal.serving.models.served_models import ServedModels

SHARED = {
    "docs.json", "healthz", "livez", "metrics", "readyz", "schema.json", "selfheal",
    "static_content",
}  # fmt: skip
"""First parts of paths that are the whole service's and are answered as with one model."""
OF_SERVICE = {"livez", "metrics", "healthz", "schema.json"}
"""What no model has of its own."""
PAGE = "selfheal/"


class ModelRouter:
    """ASGI application: `/fraud/predict` becomes `/predict` of the model `fraud`.

    What is behind sees the model in `MODEL`, and its path in the scope's ``root_path``.

    Args:
        app: The application behind.
        names: Names of the models.
        prefix: The service's path prefix.
        own: First parts of the paths of a user's own endpoints, which may also be asked for
            without a model.
        models: The models of this process; None while it starts.
    """

    def __init__(
        self,
        app: Any,
        names: Sequence[str],
        prefix: str,
        own: Collection[str],
        models: Callable[[], ServedModels | None],
    ) -> None:
        self._app = app
        self._names = names
        self._prefix = prefix
        self._shared = SHARED | set(own)
        self._models = models

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(f"{self._prefix}/"):
            await self._app(scope, receive, send)
            return
        first, slash, rest = path.removeprefix(f"{self._prefix}/").partition("/")
        if first in self._names:
            answer = self._refused(first, slash, rest)
            if answer is None:
                MODEL.set(first)
                scope = self._within(scope, first, "" if rest == "docs" else rest)
        else:
            answer = await self._of_service(first, slash, rest)
            if first == "docs":
                scope = {**scope, "path": f"{self._prefix}/"}
        await (self._app if answer is None else answer)(scope, receive, send)

    def _refused(self, name: str, slash: str, rest: str) -> Response | None:
        """The answer where the model's own endpoints give none."""
        if not rest:
            return RedirectResponse(PAGE if slash else f"{name}/{PAGE}")
        if rest == "selfheal":
            return RedirectResponse(PAGE)
        if rest in OF_SERVICE:
            return JSONResponse({"error": f"/{rest} is the whole service's, not a model's"}, 404)
        models = self._models()
        if models is not None and (why := models.problem(name)):
            return JSONResponse({"error": why}, 503, headers={"Retry-After": "10"})
        return None

    async def _of_service(self, first: str, slash: str, rest: str) -> Response | None:
        """The answer to a path that names no model; None where it is answered behind."""
        if not first:
            return FileResponse(Path(models_page()), headers={"Cache-Control": "no-cache"})
        if first == "status" and not rest:
            models = self._models()
            if models is None:
                return JSONResponse({"error": "the worker is still starting"}, 503)
            return JSONResponse(await anyio.to_thread.run_sync(models.overview))
        if first == "selfheal" and not rest:
            return RedirectResponse("../" if slash else "./")
        if first in self._shared or first == "docs":
            return None
        known = ", ".join(self._names)
        example = f"; a path begins with one of them, such as /{self._names[0]}/predict"
        return JSONResponse({"error": f"no model {shown(first)}; there are {known}{example}"}, 404)

    def _within(self, scope: Scope, name: str, rest: str) -> Scope:
        """The scope of the model's own application, whose ``root_path`` is the model's path."""
        path = f"/{name}{self._prefix}/{rest}"
        root = scope.get("root_path", "")
        return {
            **scope,
            "path": root + path,
            "raw_path": path.encode(),
            "root_path": f"{root}/{name}",
        }
