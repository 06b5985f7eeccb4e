"""Candidates on a real server: the better one is promoted, and odd ones harm nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import BRISK, ROOT, wait_for

from bento_selfheal.client.client import Client
from bento_selfheal.errors import CommandError
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows

pytestmark = pytest.mark.slow
SUPPORT = str(ROOT / "tests" / "support")


def made(name: str, rows: int, epochs: int, kind: str = "") -> Package:
    """A package trained on some clean rows; odd as a candidate where ``kind`` says so."""
    table = article_rows(rows, 0.0, np.random.default_rng(5))
    odd = {"builder": "odd_candidates:odd", "builder_args": {"features": 10, "kind": kind}}
    return package_model(
        name, table.rows, table.labels, features=ARTICLE_FEATURES,
        training=Training(epochs=epochs), seed=3, **(odd if kind else {}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(home, tmp_path_factory) -> Iterator[ServedService]:  # type: ignore[no-untyped-def]
    """A service of a model that has learned little."""
    folder = tmp_path_factory.mktemp("candidates")
    env = {
        **BRISK, "SELFHEAL_MODEL": made("weak", 200, 1).tag, 
        "SELFHEAL_STATE_DIR": str(folder / "state"), "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}",
    }  # fmt: skip
    with ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
    ) as server:
        yield server


class Traffic:
    """Asks and labels at once; every answer must come."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._generator = np.random.default_rng(9)
        self.answered_by: set[str | None] = set()

    def batch(self) -> None:
        """Forty requests of five rows with keys of their own, and their labels."""
        for _ in range(40):
            table = article_rows(5, 0.0, self._generator)
            said = self._client.predict(table.rows.tolist())
            self.answered_by.add(said.candidate)
            self._client.feedback(
                {"prediction_id": i, "label": int(y)}
                for i, y in zip(said.prediction_ids, table.labels, strict=True)
            )

    def until(self, tag: str, state: str, seconds: float = 60.0) -> dict:  # type: ignore[type-arg]
        """Go on until a candidate stands there; what is shown of it then."""

        def stands() -> dict | None:  # type: ignore[type-arg]
            self.batch()
            [one] = [c for c in self._client.candidates() if c["tag"] == tag]
            return one if one["state"] == state else None

        found: dict = wait_for(stands, f"{tag} {state}", seconds)  # type: ignore[type-arg]
        return found


@pytest.mark.parametrize("kind", ["raise", "nan", "hang", "leak"])
def test_odd_candidates_are_withdrawn(server: ServedService, kind: str, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A candidate that raises, answers NaN, hangs or eats memory fails no request, and goes."""
    monkeypatch.syspath_prepend(SUPPORT)
    tag = made(f"odd-{kind}", 400, 1, kind).tag
    with Client(server.url) as client:
        client.begin_candidate(tag, ramp=[50, 100], min_labels=50)
        shown = Traffic(client).until(tag, "withdrawn")
        assert shown["reason"]
        assert client.candidates()[-1]["share"] == 0.0


def test_a_better_candidate_is_promoted(server: ServedService) -> None:
    """It answers its share, by its tag, and serves once labels have proven it better."""
    tag = made("strong", 5000, 10).tag
    with Client(server.url) as client:
        with pytest.raises(CommandError, match="no such model"):
            client.begin_candidate("nobody:1")
        client.begin_candidate(tag, ramp=[0, 50, 100], min_labels=50)
        traffic = Traffic(client)
        shown = traffic.until(tag, "promoted")
        assert shown["evidence"]["labels"] >= 100
        assert traffic.answered_by >= {tag, None}
        wait_for(lambda: client.status()["model"] == tag, f"{tag} serves")
