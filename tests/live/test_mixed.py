"""A served model of a mixed table: rows with gaps and categories in, heals and data out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import example, served
from mixed import NAMES, flights, learn_the_turn, packaged

from bento_selfheal.client import Client
from bento_selfheal.simulation.server import ServedService


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedService]:
    folder = tmp_path_factory.mktemp("mixed")
    with served(home, packaged("mixed"), folder, workers=1) as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_rows_as_they_are(client: Client) -> None:
    """By position and by name, with null for what is missing: the same answers."""
    rows, _ = flights(30, seed=5)
    lists = client.predict(rows)
    named = client.predict([dict(zip(NAMES, row, strict=True)) for row in rows])
    assert lists.probabilities == named.probabilities
    assert set(lists.decisions) == {"in time", "late"}


@pytest.mark.parametrize(
    ("changes", "column", "said"),
    [
        ({"speed": "fast"}, "speed", "a finite number or null is needed, got 'fast'"),
        ({"engines": None}, "engines", "a whole number is needed, got null"),
        ({"day": "soon"}, "day", "a date such as 2026-11-28"),
    ],
)
def test_a_bad_value_is_named(
    server: ServedService, changes: dict[str, Any], column: str, said: str
) -> None:
    """What a column cannot hold is a 400 that names row, column and value."""
    row = dict(zip(NAMES, flights(1)[0][0], strict=True))
    answer = httpx.post(f"{server.url}/predict", json={"rows": [row, {**row, **changes}]})
    assert answer.status_code == 400
    [detail] = answer.json()["detail"]
    assert detail["loc"][-3:] == ["rows", 1, column]
    assert said in detail["msg"]


def test_an_unseen_category_is_an_answer(client: Client) -> None:
    """Nobody has to know a category before the model does."""
    row = flights(1)[0][0]
    answer = client.predict([[*row[:3], "volcanic ash", row[4]]])
    assert 0 <= answer.probabilities[0] <= 1  # type: ignore[operator]


def test_healed(client: Client) -> None:
    """When rain delays and no longer fog, the service learns it."""
    learn_the_turn(client)


@pytest.mark.slow
def test_the_example_heals(tmp_path: Path) -> None:
    """When damage has other causes, answers are right again in the end."""
    before, changed, healed = example("birdstrikes", tmp_path, "1200")
    assert changed < before - 0.1
    assert healed > changed + 0.1
