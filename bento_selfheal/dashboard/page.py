"""The page at `/selfheal`: plain files, served as they are; nothing is fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"


def keep_to_own_files(response: Response, policy: str = POLICY) -> None:
    """Have a browser load nothing for a page but the service's own files."""
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"


def models_page() -> Path:
    """The page that lists the models of a service with several; it loads files of `selfheal/`."""
    return Path(__file__).parent / "models.html"


class Page(StaticFiles):
    """The files of this folder, for a browser that may load nothing but them."""

    def __init__(self) -> None:
        super().__init__(directory=Path(__file__).parent, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file with the headers that keep the browser to this folder's files.

        Raises:
            HTTPException: There is no such file for a browser: 404.
        """
        if Path(path).suffix in (".py", ".pyc"):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        keep_to_own_files(response)
        # A new release must not meet an old script in a browser's cache.
        response.headers["Cache-Control"] = "no-cache"
        return response
