"""What may follow what: one table each for the state that is shown, a line of challengers, what
serves and the lease; and cursors, which only go forward.

The code that changes one of them asks here first, so a step that no table allows is never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from bento_selfheal.core.records import Phase, PromotionKind, State
from bento_selfheal.errors import IllegalTransition


class Cause(StrEnum):
    """What changes the state that is shown."""

    SIGNALS = "signals"  # a batch of rows was read
    HEAL = "heal"  # a heal begins
    HEALED = "healed"  # it ended, trained or refused
    ROLLBACK = "rollback"  # health, damage or an operator undid a promotion


CALM = frozenset({State.HEALTHY, State.DRIFTING, State.RETRAIN_NEEDED})
AT_REST = CALM | {State.ROLLED_BACK}

STATES: Mapping[Cause, Mapping[State, frozenset[State]]] = {
    Cause.SIGNALS: dict.fromkeys(AT_REST, CALM),
    Cause.HEAL: dict.fromkeys(AT_REST, frozenset({State.HEALING})),
    Cause.HEALED: {State.HEALING: AT_REST},
    Cause.ROLLBACK: dict.fromkeys(AT_REST, frozenset({State.ROLLED_BACK})),
}


class Line(StrEnum):
    """Where a line of challengers stands."""

    NEW = "new"  # nothing has been trained on
    ON_TRIAL = "on trial"  # it trains on, and has yet to prove itself
    PROVEN = "proven"  # the gate let it through; its later snapshots follow


class Turn(StrEnum):
    """What moves a line."""

    TRAIN = "train"  # a round of a heal
    JUDGE = "judge"  # the gate looked at newly labelled rows
    TAKE_BACK = "take back"  # what it served did worse than what it had replaced
    RESTART = "restart"  # another adapter serves, a source was forgotten, or it was refused


LINES: Mapping[Turn, Mapping[Line, frozenset[Line]]] = {
    Turn.TRAIN: {
        Line.NEW: frozenset({Line.ON_TRIAL}),
        Line.ON_TRIAL: frozenset({Line.ON_TRIAL}),
        Line.PROVEN: frozenset({Line.PROVEN}),
    },
    Turn.JUDGE: {
        Line.ON_TRIAL: frozenset({Line.ON_TRIAL, Line.PROVEN}),
        Line.PROVEN: frozenset({Line.PROVEN}),
    },
    Turn.TAKE_BACK: {
        Line.NEW: frozenset({Line.NEW}),
        Line.ON_TRIAL: frozenset({Line.ON_TRIAL}),
        Line.PROVEN: frozenset({Line.ON_TRIAL}),
    },
    Turn.RESTART: dict.fromkeys(Line, frozenset({Line.NEW})),
}


SERVES: Mapping[PromotionKind, frozenset[Phase]] = {
    PromotionKind.INITIAL: frozenset({Phase.CLEAN}),
    PromotionKind.CANARY: frozenset({Phase.POST}),
    PromotionKind.PROMOTE: frozenset({Phase.POST}),
    PromotionKind.ROLLBACK: frozenset(Phase),
    PromotionKind.REFRESH: frozenset({Phase.POST}),
}
"""Which snapshots a promotion may put in service, whatever served before; kept they must be."""


class Asker(StrEnum):
    """Who asks for the lease."""

    HOLDER = "holder"  # who had it last
    OTHER = "other"


class Lease(StrEnum):
    """How the lease stands."""

    OVER = "over"  # it ran out, or was given back
    HELD = "held"
    AHEAD = "ahead"  # it ends later than any lease could: the clock was set back since


class Grant(StrEnum):
    """What becomes of who asks."""

    GO_ON = "go on"  # under the token that it has
    SUCCEED = "succeed"  # under the next token: what the one before still writes is refused
    REFUSE = "refuse"


LEASES: Mapping[tuple[Lease, Asker], Grant] = {
    (Lease.OVER, Asker.HOLDER): Grant.GO_ON,
    (Lease.OVER, Asker.OTHER): Grant.SUCCEED,
    (Lease.HELD, Asker.HOLDER): Grant.GO_ON,
    (Lease.HELD, Asker.OTHER): Grant.REFUSE,
    (Lease.AHEAD, Asker.HOLDER): Grant.GO_ON,
    (Lease.AHEAD, Asker.OTHER): Grant.SUCCEED,
}

LONGEST = 2.0
"""Times its length that a lease may end ahead of now, before the clock is to blame."""

Of = TypeVar("Of", bound=StrEnum)
By = TypeVar("By", bound=StrEnum)


def follow(table: Mapping[By, Mapping[Of, frozenset[Of]]], before: Of, cause: By, after: Of) -> Of:
    """What follows, where the table allows it.

    Raises:
        IllegalTransition: It does not.

    >>> follow(STATES, State.HEALTHY, Cause.HEAL, State.HEALING)
    <State.HEALING: 'HEALING'>
    """
    if after not in table[cause].get(before, ()):
        raise IllegalTransition(f"{cause}: {before} may not become {after}")
    return after


def may_serve(kind: PromotionKind, phase: Phase, *, kept: bool) -> None:
    """Check that a promotion of this kind may put such a snapshot in service.

    Raises:
        IllegalTransition: It may not.
    """
    if not kept or phase not in SERVES[kind]:
        raise IllegalTransition(
            f"{kind}: a {phase} snapshot {'' if kept else 'that is not kept '}may not serve"
        )


def lease_at(until: float, now: float, seconds: float) -> Lease:
    """How a lease of ``seconds`` stands that ends at ``until``.

    >>> [lease_at(until, 100.0, 5.0).value for until in (100.0, 105.0, 3700.0)]
    ['over', 'held', 'ahead']
    """
    if until <= now:
        return Lease.OVER
    return Lease.HELD if until <= now + LONGEST * seconds else Lease.AHEAD


def forward(cursor: str, before: int, after: int) -> int:
    """A cursor's next place: always behind the last one, so nothing is taken twice.

    Raises:
        IllegalTransition: It would stand still or go back.
    """
    if after <= before:
        raise IllegalTransition(f"{cursor}: the cursor at {before} may not go to {after}")
    return after
