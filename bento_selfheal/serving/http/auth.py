"""Bearer tokens and the three roles that they carry."""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.watched_file import WatchedFile
from bento_selfheal.errors import SettingsError

LOOK_SECONDS = 1.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")
TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,512}")  # what a header carries, without the comma
SHORTEST = 16
RESERVED = {"runner", "operator"}
"""Names that the promotion log uses for itself."""

NOBODY = "operator"
"""Who asks where there are no tokens."""
ASKED_BY: ContextVar[str] = ContextVar("asked_by", default=NOBODY)
"""Name of the token that came with the current request; `NOBODY` where there are none."""


class Role(StrEnum):
    """What a token allows; one token may have several."""

    PREDICT = "predict"  # request predictions
    FEEDBACK = "feedback"  # send labels
    OPERATE = "operate"  # read the state of the service, and change it


@dataclass(frozen=True)
class Token:
    """One token of one role; only the hash of its secret is kept."""

    role: Role
    name: str
    sha256: bytes


@dataclass(frozen=True)
class Caller:
    """The name and roles of the token that came with a request."""

    name: str
    roles: frozenset[Role]


class Tokens:
    """The tokens in force: those of the settings, and those of a file that is watched.

    A bad edit of the file is refused with a log line, and the tokens before it stay in force.

    Args:
        settings: ``predict_tokens``, ``feedback_tokens``, ``operate_tokens``, ``tokens_file``.

    Raises:
        SettingsError: One of them is malformed; no message shows a token.
    """

    def __init__(self, settings: Settings) -> None:
        by_role = {
            Role.PREDICT: settings.predict_tokens,
            Role.FEEDBACK: settings.feedback_tokens,
            Role.OPERATE: settings.operate_tokens,
        }
        self._fixed = [
            token
            for role, text in by_role.items()
            for token in _listed(role, text.get_secret_value())
        ]
        path = None if settings.tokens_file == Path() else settings.tokens_file
        self._file = None if path is None else _watched(path)
        self._looked = time.monotonic()

    def __bool__(self) -> bool:
        """Whether requests need tokens at all."""
        return bool(self._fixed) or self._file is not None

    def find(self, authorization: bytes) -> Caller | None:
        """Whose token an ``Authorization`` header carries; None for any other header."""
        if self._file is not None and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._file.refresh()
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = hashlib.sha256(secret.strip()).digest()
        # Every token is compared, whatever came before, so that the time taken tells nothing.
        good = [t for t in self._all() if hmac.compare_digest(t.sha256, found)]
        if not good:
            return None
        return Caller(good[0].name, frozenset(t.role for t in good))

    @property
    def owners(self) -> str:
        """Whose tokens they are, and for what."""
        return _owners(self._all())

    def _all(self) -> list[Token]:
        return self._fixed if self._file is None else self._fixed + self._file.current


def _watched(path: Path) -> WatchedFile[list[Token]]:
    """The tokens of a file, read now and again whenever it changes."""
    none: list[Token] = []
    file = WatchedFile(path, functools.partial(_read, path), none, _owners)
    try:
        file.load()
    except OSError as error:
        raise SettingsError(f"tokens_file: {path}: {error.strerror}") from error
    return file


def _owners(tokens: list[Token]) -> str:
    return ", ".join(f"{token.name} ({token.role})" for token in tokens)


def check_address(host: str, settings: Settings) -> None:
    """Check that the service may listen on an address.

    Raises:
        SettingsError: Other machines reach the address, and no token would be needed.
    """
    if settings.open_to_all or is_loopback(host) or Tokens(settings):
        return
    raise SettingsError(
        f"will not listen on {host}: there are no tokens, so anybody who reaches it could predict, "
        "send labels and operate. Set SELFHEAL_TOKENS_FILE to a file of tokens "
        "(docs/security.md), listen on 127.0.0.1, or set SELFHEAL_OPEN_TO_ALL=true to allow it"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "0.0.0.0", "::", "10.0.0.7")]
    [True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(role: Role, text: str) -> Iterator[Token]:
    """The tokens of ``name=token``, separated by commas."""
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, secret = part.partition("=")
        if not equals:
            raise SettingsError(f"{role}_tokens: write name=token, separated by commas")
        yield _token(role, name.strip(), secret.strip(), f"{role}_tokens")


def _read(path: Path, content: bytes) -> list[Token]:
    """The tokens of a TOML file with one table per role, of names and their tokens."""
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # an integer or a nesting may be absurd
        raise SettingsError(f"tokens_file: {path} is not valid TOML") from error
    tokens = list(_filed(path, tables))
    if not tokens:
        raise SettingsError(f"tokens_file: {path} holds no token")
    return tokens


def _filed(path: Path, tables: Mapping[str, Any]) -> Iterator[Token]:
    for role, named in tables.items():
        if role not in set(Role) or not isinstance(named, dict):
            roles = ", ".join(map(repr, Role))
            raise SettingsError(f"tokens_file: {path}: {_named(role)} is not a table of {roles}")
        for name, secret in named.items():
            yield _token(Role(role), name, secret, f"tokens_file: {path}: {role}")


def _token(role: Role, name: str, secret: Any, where: str) -> Token:
    if not NAME.fullmatch(name) or name in RESERVED:
        raise SettingsError(f"{where}: {_named(name)} cannot be the name of a token")
    if not isinstance(secret, str) or not TOKEN.fullmatch(secret):
        raise SettingsError(
            f"{where}: the token of {name!r} must be 16 to 512 visible characters without a comma"
        )
    return Token(role, name, hashlib.sha256(secret.encode()).digest())


def _named(name: str) -> str:
    """A wrong name for a message; one that is as long as a token may be one."""
    return repr(name) if len(name) < SHORTEST else f"a name of {len(name)} characters"
