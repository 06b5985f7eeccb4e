"""Requests beside a canary: each is answered by one model, and by the champion where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from answering import quiet_worker
from numpy.typing import NDArray

from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.answering import computing as computing_module
from bento_selfheal.serving.answering.computing import Computed, Request
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.streams import article_rows


@pytest.fixture
def worker(package: Package, tmp_path: Path) -> Iterator[Worker]:
    """A worker with a canary that answers half of the requests, at a threshold of its own."""
    with quiet_worker(package, tmp_path / "state") as worker:
        champion = worker.follower.champion
        state = {name: value + 0.05 for name, value in champion.model.adapter_state().items()}
        model = package.with_adapter(state).requires_grad_(False)
        worker.follower.canary = replace(champion, version=2, model=model, share=0.5, threshold=0.1)
        yield worker


def requests(count: int) -> list[Request]:
    rows = article_rows(3 * count, 1.0, np.random.default_rng(1)).rows
    return [(rows[3 * n : 3 * n + 3], n.to_bytes(16, "big") * 3) for n in range(count)]


def test_each_request_by_its_own(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are computed together take two calls, and each gets the answer, the version
    and the threshold of the model that its key belongs to; without a canary they take one."""
    asked: list[int] = []
    real = computing_module.predict_probabilities

    def counted(model: SelfHealingModel, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(len(rows))
        return real(model, rows)

    monkeypatch.setattr(computing_module, "predict_probabilities", counted)
    champion, canary = worker.follower.champion, worker.follower.canary
    assert canary is not None
    every = requests(40)
    found = worker.computing.compute_all(every)
    assert len(asked) == 2
    assert sum(asked) == 120
    own = [canary.takes(keys) for _, keys in every]
    assert 10 < sum(own) < 30
    for (rows, keys), computed, takes in zip(every, found, own, strict=True):
        assert isinstance(computed, Computed)
        model = canary if takes else champion
        assert computed.champion is model
        assert np.array_equal(computed.rows, rows)
        assert np.allclose(computed.probabilities, real(model.model, rows), atol=1e-6)
        answer = worker.record(computed, keys)
        assert answer.champion.version == (2 if takes else 1)
        assert worker.decide(answer) == (answer.probabilities >= model.threshold).tolist()
    worker.log.flush()
    logged = [entry.version for entry in worker.store.read_log(0, 0)]  # type: ignore[union-attr]
    assert logged == [2 if takes else 1 for takes in own]
    worker.follower.canary = None
    asked.clear()
    worker.computing.compute_all(every)
    assert asked == [120]


class Failing(torch.nn.Module):
    """A backbone that raises."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no answer today")


def test_the_champion_answers_where_the_canary_fails(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """No request fails for a canary, alone or together with others, and the log says why."""
    canary = worker.follower.canary
    assert canary is not None
    m = canary.model
    odd = SelfHealingModel(Failing(), m.reflexive, m.head, m.output).requires_grad_(False)
    worker.follower.canary = replace(canary, model=odd)
    found = worker.computing.compute_all(requests(8))
    assert [one.champion.version for one in found if isinstance(one, Computed)] == [1] * 8
    assert "the canary, snapshot 2, fails a request: no answer today" in caplog.text
