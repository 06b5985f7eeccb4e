"""Boosted trees on a real server: their own answers first, then heals; and the example of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import BRISK, ROOT
from estimators import packaged, some, xgboost_trees
from live import served
from mixed import NAMES, codes, flights, learn_the_turn
from sqlalchemy import create_engine, text
from xgboost import XGBClassifier

from bento_selfheal.client import Client
from bento_selfheal.simulation.server import ServedService


@pytest.fixture(scope="module")
def trees() -> XGBClassifier:
    return xgboost_trees(*some(1000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("estimator")


@pytest.fixture(scope="module")
def server(home: Path, folder: Path, trees: XGBClassifier) -> Iterator[ServedService]:
    with served(home, packaged(trees, "trees"), folder, workers=1) as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_the_trees_answer(client: Client, trees: XGBClassifier) -> None:
    """Before any label, rows with gaps and categories get the trees' own probabilities."""
    rows, _ = flights(40, seed=9)
    answer = client.predict(rows)
    own = trees.predict_proba(codes(rows))[:, 1]
    assert answer.probabilities == pytest.approx(own, abs=1e-5)
    named = client.predict([dict(zip(NAMES, row, strict=True)) for row in rows])
    assert named.probabilities == answer.probabilities


def test_a_bad_value_is_named(server: ServedService) -> None:
    """Rows are read by the table's columns."""
    row = dict(zip(NAMES, flights(1)[0][0], strict=True))
    answer = httpx.post(f"{server.url}/predict", json={"rows": [row, {**row, "speed": "fast"}]})
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"][-3:] == ["rows", 1, "speed"]


def test_the_api_page_shows_the_columns(server: ServedService) -> None:
    """Log odds are nothing that a client sends."""
    page = httpx.get(f"{server.url}/docs.json").text
    assert all(name in page for name in NAMES)
    assert "log odds" not in page


def test_healed(client: Client, folder: Path) -> None:
    """When rain delays and no longer fog, the service learns it; the log has one log odds a row."""
    learn_the_turn(client)
    with create_engine(f"sqlite:///{folder / 'state' / 'selfheal.db'}").connect() as store:
        query = "select sum(length(features)), sum(rows) from predictions"
        size, rows = store.execute(text(query)).one()
    assert size / rows <= 4 * (1 + len(NAMES)) + 20


def test_a_row_with_its_label(client: Client) -> None:
    """Who keeps no ids sends the row again, beside its label."""
    rows, [label] = flights(1, seed=77)
    assert client.feedback([{"features": rows[0], "label": label}]).accepted == 1


@pytest.mark.slow
def test_the_example_heals(tmp_path: Path) -> None:
    """The script trains, packages and serves, and the answers are right again in the end."""
    command = [sys.executable, str(ROOT / "examples" / "xgboost" / "run.py"), "25"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=280, env=os.environ | BRISK
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [float(x) for x in re.findall(r": (\d\.\d+) right", done.stdout)]
    assert len(told) == 25
    before, turned, healed = np.mean(told[:5]), np.mean(told[5:7]), np.mean(told[-5:])
    assert turned < before - 0.15
    assert healed > turned + 0.15
