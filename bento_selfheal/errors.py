"""Every error this package raises on purpose.

SelfHealError
├── SettingsError          a settings file, variable or threshold is wrong
├── InvalidInput           a row, label or id from outside is wrong (HTTP 400)
├── PackageError           a packaged model is damaged or does not fit
├── SnapshotError          an adapter snapshot failed verification
├── StoreError             the store is unreachable or not ours
│   ├── LeaseLost          another healing runner leads now
│   ├── PromotionMoved     an operator changed what serves during a step
│   ├── CheckpointError    the runner's checkpoint cannot be used; it begins anew
│   ├── NewerRelease       only a newer release reads what is there
│   └── ServiceUnavailable a client found the service or its store out of reach (HTTP 503, 429)
├── CommandError           an operator asked for what cannot be done (HTTP 409)
├── AccessDenied           the token is missing, unknown or of another role (HTTP 401, 403)
├── IllegalTransition      a state was to change as no table allows: a defect of ours
└── ServiceError           a client got an answer that nothing above explains
"""

from __future__ import annotations

from typing import Any


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
        self.loc = loc
        self.msg = msg
        self.kind = kind
        super().__init__(f"{'.'.join(str(part) for part in loc)}: {msg}")

    def body(self) -> dict[str, Any]:
        """The HTTP body, in the shape BentoML gives its own validation errors."""
        return {
            "error": str(self),
            "detail": [{"loc": list(self.loc), "msg": self.msg, "type": self.kind}],
        }


class PackageError(SelfHealError):
    """A packaged model is damaged, or its parts do not fit together."""


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
    """What is there was written by a newer release; serve it with that one."""


class ServiceUnavailable(StoreError):
    """The service or its store was out of reach, through all that a client tried.

    Args:
        message: Where, and what was said.
        retry_after: Seconds after which the service asks to be tried again.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class CommandError(SelfHealError):
    """An operator's command cannot be carried out as things stand."""


class AccessDenied(SelfHealError):
    """The service wants a token, or one of another role."""


class IllegalTransition(SelfHealError):
    """A state was to change in a way that no table of `transitions` allows; nothing was written."""


class ServiceError(SelfHealError):
    """The service failed, or what answered is no service of ours.

    Args:
        message: Where, and what was said.
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)
