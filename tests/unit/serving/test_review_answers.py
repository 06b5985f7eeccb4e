"""Answers say which rows' labels are asked for, where not all are."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
from answering import predictor_of, quiet_worker

from bento_selfheal.client.calls import predict_call
from bento_selfheal.client.known_classes import KnownClasses
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.review import Review
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import NPY, Predictions

JSON = {"content-type": "application/json"}
ROWS = article_rows(300, 1.0, np.random.default_rng(1)).rows


def test_nothing_by_default(package: Package, tmp_path: Path) -> None:
    """Where every label is asked for, answers and log are what they were."""
    with quiet_worker(package, tmp_path) as worker:
        predictor = predictor_of(worker)
        reply = asyncio.run(predictor.reply(JSON, json.dumps({"rows": ROWS.tolist()}).encode()))
        slow = asyncio.run(predictor.predict(ROWS.tolist()))
        worker.log.flush()
        [first, _] = worker.store.read_log(0, 0)
    assert reply is not None
    assert not {"review", "review_probability"} & set(json.loads(reply.body))
    assert not {"review", "review_probability"} & set(slow.model_dump())
    assert first.review == b""  # type: ignore[union-attr]


def test_each_way_says_it(package: Package, tmp_path: Path) -> None:
    """JSON, BentoML's way and the client's NumPy files say of each row whether its label is asked
    for, and how likely that was; the log lets the runner draw the same."""
    policy = {"review": "flagged", "review_explored": 0.2}
    with quiet_worker(package, tmp_path, **policy) as worker:
        predictor = predictor_of(worker)
        fast = asyncio.run(predictor.reply(JSON, json.dumps({"rows": ROWS.tolist()}).encode()))
        slow = asyncio.run(predictor.predict(ROWS.tolist()))
        headers = {"content-type": NPY, "accept": NPY}
        file = asyncio.run(predictor.reply(headers, npy.dump(ROWS)))
        worker.log.flush()
        kept = worker.store.read_log(0, 0)
    assert fast is not None
    assert file is not None
    response = httpx.Response(200, headers=dict(file.headers), content=file.body)
    answers = [
        Predictions(**json.loads(fast.body)),
        slow,
        predict_call(ROWS, known=KnownClasses()).read(response),
    ]
    for answer, entry in zip(answers, kept, strict=True):
        flagged = np.asarray(answer.decisions) == 1
        assert answer.review is not None
        assert answer.review_probability == np.where(flagged, 1.0, 0.2).tolist()
        assert np.asarray(answer.review)[flagged].all()
        assert 0.1 < np.asarray(answer.review)[~flagged].mean() < 0.3
        drawn = Review.unpack(entry.review, 300).asked(entry.request)  # type: ignore[union-attr]
        assert answer.review == drawn.tolist()


def test_more_rows_than_a_header_tells_of(package: Package, tmp_path: Path) -> None:
    """The answer to a NumPy file is JSON then, which the client reads all the same."""
    many = np.repeat(ROWS, 70, axis=0)
    policy = {"review": "flagged", "review_explored": 0.2, "max_rows": len(many)}
    with quiet_worker(package, tmp_path, **policy) as worker:
        headers = {"content-type": NPY, "accept": NPY}
        reply = asyncio.run(predictor_of(worker).reply(headers, npy.dump(many)))
    assert reply is not None
    assert (reply.media_type, reply.headers) == ("application/json", {})
    response = httpx.Response(200, content=reply.body)
    answer = predict_call(many, known=KnownClasses()).read(response)  # type: ignore[arg-type]
    assert answer.review is not None
    assert len(answer.review) == len(answer.decisions) == len(many)
