"""Access control: which requests may reach which paths.

A path that nobody named needs a token of an operator, so that what is added later is closed at
first.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.types import Scope

from bento_selfheal.serving.http.auth import ASKED_BY, Role, Tokens
from bento_selfheal.wire.class_list import CLASSES_PATH

OPEN: frozenset[Role] = frozenset()
ANY = frozenset(Role)
OPERATE = frozenset({Role.OPERATE})
OPEN_BELOW = ("/selfheal/", "/static_content/")
"""Files of the page and of BentoML's API page; the figures that they show need a token."""
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]]*)(:[0-9]+)?")
SAFE = {"GET", "HEAD", "OPTIONS"}
TAKES = "/review"
"""A path whose GET changes something: rows are somebody's from then on, and used up of a budget."""


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the application's."""

    status: int
    error: str
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    """What is wrong with the body, as validation errors have it in ``type``."""

    @property
    def body(self) -> bytes:
        """As JSON, in the shape that other errors have."""
        content: dict[str, Any] = {"error": self.error}
        if self.kind:
            content["detail"] = [{"loc": ["body"], "msg": self.error, "type": self.kind}]
        return json.dumps(content).encode()


AccessRule = Callable[[Scope, Mapping[bytes, bytes]], Refusal | None]
"""Scope and headers in; why the request is refused, or None."""


class ByToken:
    """Access where tokens are set.

    Args:
        tokens: The tokens in force.
        needs: Roles of which a path needs one; any other path needs `Role.OPERATE`.
        open_below: Folders of files that need no token.
        cors: Whether CORS is on: browsers send its preflight requests without a token.
    """

    def __init__(
        self,
        tokens: Tokens,
        needs: Mapping[str, frozenset[Role]],
        open_below: tuple[str, ...],
        *,
        cors: bool,
    ) -> None:
        self._tokens = tokens
        self._needs = needs
        self._open_below = open_below
        self._cors = cors

    def __call__(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Refusal | None:
        need = self._need(scope["path"])
        if not need or (self._cors and _is_preflight(scope, headers)):
            return None
        given = headers.get(b"authorization", b"")
        caller = self._tokens.find(given)
        if caller is None:
            if given:
                challenge, error = 'Bearer error="invalid_token"', "the bearer token is unknown"
            else:
                challenge, error = "Bearer", "a bearer token is needed"
            return Refusal(401, error, {"WWW-Authenticate": challenge})
        if not need & caller.roles:
            roles = " or ".join(sorted(need))
            return Refusal(
                403, f"the token {caller.name!r} has not the role {roles}",
                {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{roles}"'},
            )  # fmt: skip
        ASKED_BY.set(caller.name)
        return None

    def _need(self, path: str) -> frozenset[Role]:
        need = self._needs.get(path)
        if need is not None:
            return need
        return OPEN if path.startswith(self._open_below) else OPERATE


class ByOrigin:
    """Access without tokens: pages of other sites may not use this machine's browsers.

    Args:
        names: Whether ``Host`` may be any name. Otherwise it must be a local one: a page of a
            stranger's domain that was pointed here would count as one of this service
            (DNS rebinding).
        allowed: Whether CORS allows an origin.
    """

    def __init__(self, *, names: bool, allowed: Callable[[str], bool]) -> None:
        self._names = names
        self._allowed = allowed

    def __call__(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Refusal | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._names and not _is_here(host):
            return Refusal(403, "without tokens, only local host names are accepted")
        if scope.get("method") in SAFE and not scope["path"].endswith(TAKES):
            return None  # a WebSocket has no method
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"same-origin")
        # Behind a proxy that ends TLS both have one host and another scheme.
        same = origin.partition("://")[2] == host if origin else site in (b"same-origin", b"none")
        if same or (origin and self._allowed(origin)):
            return None
        return Refusal(403, "a page of another site may not send this request")


def needs(prefix: str, *, metrics: bool) -> dict[str, frozenset[Role]]:
    """The roles that the service's own paths need.

    Args:
        prefix: The service's path prefix.
        metrics: Whether ``/metrics`` needs no token.
    """
    open_paths = ["/livez", "/readyz", "/healthz", "/selfheal", *(["/metrics"] if metrics else [])]
    return {
        **{prefix + path: OPEN for path in open_paths},
        **{prefix + path: ANY for path in ("/", "/docs.json", CLASSES_PATH)},
        "/schema.json": ANY,  # BentoML puts no prefix here
        f"{prefix}/predict": frozenset({Role.PREDICT}),
        f"{prefix}/feedback": frozenset({Role.FEEDBACK}),
        f"{prefix}/review": frozenset({Role.FEEDBACK}),
    }


def _is_preflight(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    return scope.get("method") == "OPTIONS" and b"access-control-request-method" in headers


@lru_cache(256)
def _is_here(host: str) -> bool:
    """Whether a ``Host`` header is an address or a local name."""
    parts = HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts["name"].strip("[]")
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
