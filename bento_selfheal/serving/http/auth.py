"""Who may do what: three roles, and the bearer tokens that carry them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
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
from bento_selfheal.errors import SettingsError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")
TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,512}")  # what a header carries, without the comma
OURS = {"runner", "operator"}
"""Names that the promotion log has for itself."""

ASKED_BY: ContextVar[str] = ContextVar("asked_by", default="operator")
"""Name of the token that the request in hand came with; ``operator`` where there are no tokens."""


class Role(StrEnum):
    """What a token is good for; one token may have several."""

    PREDICT = "predict"  # ask for predictions
    FEEDBACK = "feedback"  # give labels
    OPERATE = "operate"  # read where the service stands, and change it


@dataclass(frozen=True)
class Token:
    """One token of one role; of the secret itself only the hash is kept."""

    role: Role
    name: str
    sha256: bytes


@dataclass(frozen=True)
class Caller:
    """Whose token a request came with."""

    name: str
    roles: frozenset[Role]


class Tokens:
    """The tokens in force: those of the environment, and those of a file that is looked at again.

    A bad edit of the file is refused with a log line, and the tokens before it stay in force.

    Args:
        settings: ``predict_tokens``, ``feedback_tokens``, ``operate_tokens``, ``tokens_file``.

    Raises:
        SettingsError: One of them is malformed; no message shows a token.
    """

    def __init__(self, settings: Settings) -> None:
        given = {
            Role.PREDICT: settings.predict_tokens,
            Role.FEEDBACK: settings.feedback_tokens,
            Role.OPERATE: settings.operate_tokens,
        }
        self._given = [
            token
            for role, text in given.items()
            for token in _listed(role, text.get_secret_value())
        ]
        self._path = None if settings.tokens_file == Path() else settings.tokens_file
        self._seen: tuple[int, int, int] | None = None
        self._looked = time.monotonic()
        self._filed: list[Token] = []
        if self._path is not None:
            try:
                self._seen = _stamp(self._path)
                self._filed = _read(self._path)
            except OSError as error:
                raise SettingsError(f"tokens_file: {self._path}: {error.strerror}") from error

    def __bool__(self) -> bool:
        """Whether any token is asked for at all."""
        return bool(self._given) or self._path is not None

    def find(self, authorization: bytes) -> Caller | None:
        """Whose token an ``Authorization`` header carries; None for any other header."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look_again()
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = hashlib.sha256(secret.strip()).digest()
        # Every token is compared, whatever came before, so that time tells nothing.
        good = [t for t in self._all() if hmac.compare_digest(t.sha256, found)]
        if not good:
            return None
        return Caller(good[0].name, frozenset(t.role for t in good))

    @property
    def told(self) -> str:
        """Whose tokens they are, and for what."""
        return ", ".join(f"{token.name} ({token.role})" for token in self._all())

    def _all(self) -> list[Token]:
        return self._given + self._filed

    def _look_again(self) -> None:
        self._looked = time.monotonic()
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
        except OSError as error:
            if self._seen is not None:
                log.error("tokens stay as they were: %s: %s", self._path, error.strerror)
            self._seen = None
            return
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._filed = _read(self._path)
        except OSError as error:
            log.error("tokens stay as they were: %s: %s", self._path, error.strerror)
        except SettingsError as error:
            log.error("tokens stay as they were: %s", error)
        else:
            log.info("tokens in force: %s", self.told)


def check_address(host: str, settings: Settings) -> None:
    """See whether the service may listen on an address of this machine.

    Raises:
        SettingsError: It is beyond loopback, and nobody would be asked for a token.
    """
    if settings.open_to_all or is_loopback(host) or Tokens(settings):
        return
    raise SettingsError(
        f"will not listen on {host}: there are no tokens, so anybody who reaches it could predict, "
        "teach and operate. Name a file of tokens by SELFHEAL_TOKENS_FILE (docs/security.md), or "
        "listen on 127.0.0.1, or set SELFHEAL_OPEN_TO_ALL=true to have it so"
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
    """``name=token``, several with commas between."""
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, secret = part.partition("=")
        if not equals:
            raise SettingsError(f"{role}_tokens: write name=token, several with commas between")
        yield _token(role, name.strip(), secret.strip(), f"{role}_tokens")


def _read(path: Path) -> list[Token]:
    """The tokens of a TOML file with a table a role, each a name and its token."""
    try:
        tables = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"tokens_file: {path} is no TOML") from error
    tokens = list(_filed(path, tables))
    if not tokens:
        raise SettingsError(f"tokens_file: {path} has no token")
    return tokens


def _filed(path: Path, tables: Mapping[str, Any]) -> Iterator[Token]:
    for role, named in tables.items():
        if role not in set(Role) or not isinstance(named, dict):
            raise SettingsError(
                f"tokens_file: {path}: {role} is no table of {', '.join(map(repr, Role))}"
            )
        for name, secret in named.items():
            yield _token(Role(role), name, secret, f"tokens_file: {path}: {role}")


def _token(role: Role, name: str, secret: Any, where: str) -> Token:
    if not NAME.fullmatch(name) or name in OURS:
        raise SettingsError(f"{where}: {name!r} is no name for a token")
    if not isinstance(secret, str) or not TOKEN.fullmatch(secret):
        raise SettingsError(
            f"{where}: the token of {name!r} is not 16 to 512 visible characters without a comma"
        )
    return Token(role, name, hashlib.sha256(secret.encode()).digest())


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
