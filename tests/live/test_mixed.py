"""A served model of a mixed table: rows with gaps and categories in, heals and data out."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import wait_for
from live import example, served
from mixed import NAMES, flights, learn_the_turn, packaged
from sqlalchemy import create_engine, text

from bento_selfheal.client import Client
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.wire import arrow
from bento_selfheal.wire.messages import ARROW


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mixed")


@pytest.fixture
def store_of(folder: Path) -> Callable[[], list[bytes]]:
    """Gives the logged rows of each request, oldest first."""

    def logged() -> list[bytes]:
        with create_engine(f"sqlite:///{folder / 'state' / 'selfheal.db'}").connect() as store:
            query = text("select features from predictions order by seq")
            return list(store.execute(query).scalars())

    return logged


@pytest.fixture(scope="module")
def server(home: Path, folder: Path) -> Iterator[ServedService]:
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


def test_arrow_is_answered_and_logged_as_json(
    server: ServedService, client: Client, store_of: Callable[[], list[bytes]]
) -> None:
    """A stream, gzipped or not, gives the same probabilities, and the same rows in the log."""
    rows, _ = flights(30, seed=6)
    rows[0][3], rows[1] = "volcanic ash", [None, 2, None, None, None]
    expected = client.predict(rows)
    columns = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    body = arrow.dump(pa.table(columns))
    for content, more in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
        answer = httpx.post(
            f"{server.url}/predict", content=content, headers={"Content-Type": ARROW, **more}
        )
        assert answer.json()["probabilities"] == expected.probabilities

    def alike() -> bool:
        newest = store_of()[-3:]
        return len(newest) == 3 and len(set(newest)) == 1

    wait_for(alike, "the same rows three times in the log")
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        # These come as float32, where JSON rounds to the shortest text.
        said = np.float32(client.predict(frame).probabilities)
        assert np.array_equal(said, np.float32(expected.probabilities))
    wrong = arrow.dump(pa.table({**columns, "engines": [1.5] * 30}))
    answer = httpx.post(f"{server.url}/predict", content=wrong, headers={"Content-Type": ARROW})
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"][-3:] == ["rows", 0, "engines"]
    assert "a whole number is needed, got 1.5" in answer.text


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
