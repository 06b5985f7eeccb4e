"""Keeps BentoML's API page to files of the service: it would load a tracker from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento_selfheal.dashboard.page import POLICY as OWN_FILES
from bento_selfheal.dashboard.page import keep_to_own_files

INDEX, DOCUMENT = "index", "openapi-spec"
"""BentoML's names of the routes of the page, and of the document that it shows."""
POLICY = f"{OWN_FILES}; style-src 'self' 'unsafe-inline'"
"""Swagger UI has styles in its text. Scripts in the text, such as the tracker's, do not run."""
BADGE = "[!["
"""How a line of the description begins that shows an image of another host."""
Endpoint = Callable[[Request], Awaitable[Response]]


def own_files_alone(app: Any) -> None:
    """Have a browser load nothing but the service's own files for BentoML's page.

    Args:
        app: BentoML's application, before its first request.
    """
    routes = app.router.routes
    if all(getattr(route, "name", "") != DOCUMENT for route in routes):
        return  # a part of a larger service, or BentoML's optional page, whose scripts are its own
    for place, route in enumerate(routes):
        if isinstance(route, Route) and route.name == INDEX:
            routes[place] = Route(route.path, _kept(route.endpoint), name=INDEX)


def without_badges(description: str) -> str:
    """A description without BentoML's badges, which come from other hosts.

    >>> without_badges("# Fraud\\n\\n[![docs](https://a/b.svg)](https://c)\\nServes.")
    '# Fraud\\n\\nServes.'
    """
    return "\n".join(line for line in description.split("\n") if not line.startswith(BADGE))


def _kept(endpoint: Endpoint) -> Endpoint:
    async def page(request: Request) -> Response:
        response = await endpoint(request)
        keep_to_own_files(response, POLICY)
        return response

    return page
