"""With tokens a source belongs to the token that sends it: nobody speaks for another one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bento_selfheal.errors import AccessDenied, InvalidInput
from bento_selfheal.serving.feedback import FeedbackAnswer
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.http.own_sources import own_source, own_sources
from bento_selfheal.serving.label_taker import LabelTaker
from bento_selfheal.serving.predict_service import PredictBase
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire.messages import FeedbackItem


def item(source: str | None) -> FeedbackItem:
    return FeedbackItem(label=1, prediction_id="x", source=source)


def test_no_source_of_one_token_is_of_another() -> None:
    """Whatever two tokens name, their sources differ; a token's name for itself stays."""
    named = [None, "", "desk", "liar", "desk/till", "liar/till", "/", "operator"]
    desk, liar = ({own_source(name, token) for name in named} for token in ("desk", "liar"))
    assert not desk & liar
    assert {"desk", "desk/till", "desk/liar"} <= desk
    assert own_source("desk/till", "desk") == "desk/till"


def test_too_long() -> None:
    """A source that the store could not keep with the token's name is refused by its item."""
    own_sources([item("s" * 195)], "desk", {})
    with pytest.raises(InvalidInput, match="at most 195") as refused:
        own_sources([item(None), item("s" * 196)], "desk", {})
    assert refused.value.loc == ("items", 1, "source")


def test_a_token_names_its_listed_sources_only() -> None:
    """A token whose sources are listed may name these and itself; another is refused by its name,
    and a token that is not listed is free."""
    listed = {"desk": ["till-1", "till-2"]}
    good = [item(name) for name in ("till-1", "desk/till-2", None, "desk")]
    own_sources(good, "desk", listed)
    assert [one.source for one in good] == ["desk/till-1", "desk/till-2", "desk", "desk"]
    with pytest.raises(AccessDenied, match=r"items.1.source: .*'desk' may not name 'till-3'"):
        own_sources([item("till-1"), item("till-3")], "desk", listed)
    own_sources([item("till-3")], "web", listed)


@pytest.mark.parametrize(
    ("token", "kept"),
    [("liar", ["liar/desk", "liar", "liar"]), (None, ["desk", None, "liar"])],
)
def test_feedback_is_kept_for_its_token(token: str | None, kept: list[str | None]) -> None:
    """What `/feedback` counts and keeps is of the token's sources; without tokens it is as sent."""
    told: list[list[str | None]] = []

    def note(items: list[FeedbackItem], *_: Any) -> None:
        told.append([one.source for one in items])

    def accept(items: list[FeedbackItem], *_: Any) -> FeedbackAnswer:
        note(items)
        return FeedbackAnswer()

    intake: Any = SimpleNamespace(accept=accept)
    limit: Any = SimpleNamespace(take=note)
    meters: Any = SimpleNamespace(feedback=lambda counts: None)
    taker = LabelTaker(intake, limit, Telemetry(), meters, 5, {})
    running = SimpleNamespace(_models=SimpleNamespace(current=SimpleNamespace(taker=taker)))
    before = ASKED_BY.set(token) if token else None
    items = [item("desk"), item(None), item("liar")]
    asyncio.run(cast(Any, PredictBase.feedback).func(running, items))
    if before:
        ASKED_BY.reset(before)
    assert told == [kept, kept]
