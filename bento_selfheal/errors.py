"""Every error that this package raises on purpose.

SelfHealError
├── SettingsError          a settings file, variable or threshold is wrong
├── InvalidInput           a row, label or id from outside is wrong (HTTP 400)
├── PackageError           a packaged model is damaged or its parts do not match
├── SnapshotError          an adapter snapshot failed verification
├── StoreError             the store is unreachable or not one of this project
│   ├── LeaseLost          another healing runner leads now
│   ├── PromotionMoved     an operator changed what serves during a step
│   ├── CheckpointError    the runner's checkpoint cannot be used; it begins anew
│   ├── NewerRelease       only a newer release reads what is there
│   └── ServiceUnavailable a client found the service or its store out of reach (HTTP 503, 429)
├── FeedError              a feed of labels cannot be read
├── Overloaded             a request would wait too long for the model (HTTP 503)
├── CommandError           an operator's command cannot be carried out (HTTP 409)
├── OtherClasses           the classes that were asked for are not the model's (HTTP 404)
├── UnknownRow             nothing is kept of the row that is to be erased (HTTP 404)
├── AccessDenied           the token is missing, unknown or of another role (HTTP 401, 403)
├── IllegalTransition      a state was to change in a forbidden way: a defect of this project
└── ServiceError           a client got any other error
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 500
"""Characters of a stranger's message that an event or a status shows."""


def escaped(text: str) -> str:
    """A text with its lone surrogates escaped, so that it can be encoded.

    >>> escaped("a\\ud800")
    'a\\\\ud800'
    """
    return text.encode(errors="backslashreplace").decode()


def storable(value: Any) -> Any:
    """JSON values whose texts every store and every answer can hold: no NUL, no lone surrogate.

    >>> storable({"a\\0": ["\\ud800", 1]})
    {'a\\\\x00': ['\\\\ud800', 1]}
    """
    if isinstance(value, str):
        return escaped(value).replace("\0", "\\x00")
    if isinstance(value, Mapping):
        return {storable(k): storable(v) for k, v in value.items()}
    return [storable(v) for v in value] if isinstance(value, list | tuple) else value


def brief(error: BaseException) -> str:
    """Kind and message of any error, cut to a length that fits an event.

    >>> brief(KeyError("a"))
    "KeyError: 'a'"
    """
    text = str(storable(f"{type(error).__name__}: {str(error)[:LONGEST]}"))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


class SelfHealError(Exception):
    """Root of the tree."""


class SettingsError(SelfHealError):
    """A setting is missing, unknown or out of range; the message names it."""


class InvalidInput(SelfHealError):
    """Input from outside is wrong.

    Args:
        loc: Path to the wrong field, e.g. ``("rows", 3, "V14")``.
        msg: What is wrong, with the value.
        kind: Machine-readable kind, e.g. ``"not_finite"``.
    """

    def __init__(self, loc: tuple[str | int, ...], msg: str, kind: str) -> None:
        # A lone surrogate in a name could be written neither to JSON nor to a log.
        self.loc = tuple(escaped(part) if isinstance(part, str) else part for part in loc)
        self.msg = escaped(msg)
        self.kind = kind
        super().__init__(f"{'.'.join(str(part) for part in self.loc)}: {self.msg}")

    def body(self) -> dict[str, Any]:
        """The HTTP body, in the shape of BentoML's own validation errors."""
        return {
            "error": str(self),
            "detail": [{"loc": list(self.loc), "msg": self.msg, "type": self.kind}],
        }


class PackageError(SelfHealError):
    """A packaged model is damaged, or its parts do not match."""


class SnapshotError(SelfHealError):
    """An adapter snapshot is damaged, foreign or not finite; it must not serve."""


class StoreError(SelfHealError):
    """The store cannot be used."""


class LeaseLost(StoreError):
    """Another healing runner holds the lease; nothing of this step was written."""


class PromotionMoved(StoreError):
    """An operator promoted or rolled back during a step; the step was not written."""


class CheckpointError(StoreError):
    """The runner's checkpoint is damaged or of an older release; the runner begins anew."""


class NewerRelease(StoreError):
    """The store was written by a newer release; use that release."""


class ServiceUnavailable(StoreError):
    """The service or its store was out of reach in every attempt of a client.

    Args:
        message: The address and the answer.
        retry_after: Seconds after which the service asks for the next attempt.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class FeedError(SelfHealError):
    """A feed of labels is out of reach, or something in it cannot be read; it is tried again."""


class Overloaded(SelfHealError):
    """A request would wait too long for the model, or the service stops; it may be sent again."""


class CommandError(SelfHealError):
    """An operator's command cannot be carried out now."""


class UnknownRow(SelfHealError):
    """Nothing is kept of the row that is to be erased."""


class OtherClasses(SelfHealError):
    """The classes that were asked for are those of another model."""


class AccessDenied(SelfHealError):
    """The service needs a token, or a token of another role."""


class IllegalTransition(SelfHealError):
    """A state was to change in a way that `transitions` forbids; nothing was written."""


class ServiceError(SelfHealError):
    """The service failed, or something else answered.

    Args:
        message: The address and the answer.
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)
