"""Labels that disagree, are taken back or are of a new class, on a real server with tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import wait_for
from live import WIDTH

from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOP, ANNA = "shop-0123456789abcdef", "anna-0123456789abcdef"
SOURCES = '{"shop": ["a", "b", "c"]}'
ROWS = np.random.default_rng(5).normal(size=(60, WIDTH)).round(3).tolist()


def ask(server: ServedService, path: str, body: Any, token: str = SHOP) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)


def status(server: ServedService) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {ANNA}"}
    answer: dict[str, Any] = httpx.get(f"{server.url}/status", headers=headers, timeout=60).json()
    return answer


def kinds(server: ServedService) -> list[str]:
    headers = {"Authorization": f"Bearer {ANNA}"}
    events = httpx.get(f"{server.url}/events", headers=headers, timeout=60).json()
    return [e["kind"] for e in events]


def give(server: ServedService, *items: dict[str, Any]) -> dict[str, Any]:
    answer = ask(server, "/feedback", {"items": list(items)})
    assert answer.status_code == 200, answer.text
    counts: dict[str, Any] = answer.json()
    return counts


def test_a_day_of_disagreement(serve: Callable[..., ServedService]) -> None:
    """Votes decide, a source takes its label back, a new class is kept and told of, a token names
    its listed sources only, and a quarantine is lifted: over HTTP, with the runner behind it."""
    server = serve(
        workers=2, predict_tokens=f"shop={SHOP}", feedback_tokens=f"shop={SHOP}",
        operate_tokens=f"anna={ANNA}", conflicts="votes",
        token_sources=SOURCES,
    )  # fmt: skip
    keys = [f"tx-{i}" for i in range(len(ROWS))]
    assert ask(server, "/predict", {"rows": ROWS, "keys": keys}).status_code == 200
    assert give(server, {"key": "tx-0", "label": 0, "source": "a"})["accepted"] == 1
    assert give(server, {"key": "tx-0", "label": 1, "source": "b"})["in_conflict"] == 1
    assert give(server, {"key": "tx-0", "label": 1, "source": "c"})["accepted"] == 1
    assert give(server, {"key": "tx-0", "retract": True, "source": "a"})["accepted"] == 1
    assert give(server, {"key": "tx-1", "label": 7, "source": "a"})["accepted"] == 1
    denied = ask(server, "/feedback", {"items": [{"key": "tx-2", "label": 1, "source": "liar"}]})
    assert (denied.status_code, "liar" in denied.json()["error"]) == (403, True)
    slip = ask(server, "/feedback", {"items": [{"key": "tx-2", "label": "fraud"}]})
    assert slip.status_code == 400
    changes = [{"key": "tx-3", "label": i % 2, "corrects": True, "source": "a"} for i in range(120)]
    full = ask(server, "/feedback", {"items": changes})
    assert (full.status_code, "tx-3" in full.json()["error"]) == (409, True)
    wait_for(lambda: status(server)["new_classes"]["classes"] == {"7": 1}, "the new class is seen")
    for path in ("/forget", "/release"):
        assert ask(server, path, {"source": "shop/a"}, ANNA).status_code == 200
    wait_for(lambda: kinds(server)[-2:] == ["quarantine", "release"], "the quarantine is lifted")
    assert status(server)["sources"]["shop/a"]["quarantined"] is None


def test_feedback_holds_no_status_up(serve: Callable[..., ServedService]) -> None:
    """While 60 requests of labels wait for the store, the status is answered at once."""
    server = serve(workers=1)
    many = [{"features": row, "label": 1, "source": f"s{i}"} for i, row in enumerate(ROWS)]

    def label(n: int) -> int:
        items = [{**item, "source": f"{item['source']}-{n}"} for item in many * 30]
        return httpx.post(f"{server.url}/feedback", json={"items": items}, timeout=120).status_code

    with ThreadPoolExecutor(60) as threads:
        waiting = [threads.submit(label, n) for n in range(60)]
        took = []
        while not all(one.done() for one in waiting):
            began = time.monotonic()
            assert httpx.get(f"{server.url}/status", timeout=60).status_code == 200
            took.append(time.monotonic() - began)
    assert {one.result() for one in waiting} <= {200, 503}
    # The first may wait for the bodies of all 60, which are read in the event loop.
    assert sorted(took)[len(took) // 2] < 5.0
