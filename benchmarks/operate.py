"""What daily use costs: the asyncio client beside aiohttp alone, and what the API page is worth.

    make bench-operate            writes benchmarks/results/operate.json (minutes)

Names of rows may follow the command; the others stay as they are. Each figure stands beside its
baseline in the same run: short bursts in turn, so that what else the machine does weighs on both
alike; medians over the bursts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from one_worker import one_worker
from page_requests import statuses
from record import article_home, record
from serving import ours
from small_network import packaged_small
from worlds import DATA, package_article

from bento_selfheal.client import AsyncClient
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, read_table
from bento_selfheal.simulation.table import package_table
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import NPY

AT_ONCE = 64
REQUESTS = 2000
BURSTS = 7
ASKED = 0.8
SEED, MADE = 42, 500


def async_client(home: Path) -> dict[str, Any]:
    """Requests a second of one row each, 64 at once: by our client, and by aiohttp that posts the
    same bytes and reads the answer without a look at it."""
    with ours(home, workers=1) as port:
        ours_, theirs = asyncio.run(_bursts(f"http://127.0.0.1:{port}"))
    pairs = list(zip(ours_, theirs, strict=True))[1:]  # the first burst warms
    return {
        "requests_a_second": round(median(one for one, _ in pairs)),
        "aiohttp": round(median(one for _, one in pairs)),
        "ratio": round(median(one / other for one, other in pairs), 3),
        "bursts": [round(one / other, 3) for one, other in pairs],
        "asked": ASKED,
    }


async def _bursts(url: str) -> tuple[list[float], list[float]]:
    row = np.zeros((1, len(ARTICLE_FEATURES)), dtype=np.float32)
    body, headers = npy.dump(row), {"Content-Type": NPY, "Accept": NPY}

    async def post() -> None:
        async with session.post(f"{url}/predict", data=body, headers=headers) as answer:
            answer.raise_for_status()
            await answer.read()

    async def predict() -> None:
        await client.predict(row)

    rates: dict[Callable[[], Awaitable[None]], list[float]] = {predict: [], post: []}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with AsyncClient(url) as client, aiohttp.ClientSession(connector=connector) as session:
        for _ in range(BURSTS + 1):
            for send, seen in rates.items():
                seen.append(await _rate(send))
    return rates[predict], rates[post]


async def _rate(send: Callable[[], Awaitable[None]]) -> float:
    """Requests a second, as many at once as there are connections."""
    left = iter(range(REQUESTS))

    async def one_after_the_other() -> None:
        for _ in left:
            await send()

    start = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    return REQUESTS / (time.perf_counter() - start)


def api_page(home: Path) -> dict[str, Any]:
    """Share of the requests that schemathesis makes as valid from the API page which are answered
    with 200; `unfitted` without a hand in how many keys it makes."""
    source = DATA / "birdstrikes.csv"
    train, _ = read_table(source, "damaged").split(0.2)
    packages = {
        "a mixed table": package_table("operate-mixed", train, SEED, None),
        "plain numbers": package_article(SEED),
        "a torch network": packaged_small("operate-network"),
    }
    found: dict[str, Any] = {"requests": MADE, "asked": ASKED}
    for name, package in packages.items():
        with one_worker(home, package) as server:
            found[name] = {
                "/predict": _share(statuses(server.url, "/predict", MADE)),
                "/predict, unfitted": _share(
                    statuses(server.url, "/predict", MADE, fit_keys=False)
                ),
                "/feedback": _share(statuses(server.url, "/feedback", MADE)),
            }
    return found


def _share(seen: Counter[int]) -> dict[str, Any]:
    """The share that is answered with 200, and every status."""
    counts = {str(status): count for status, count in sorted(seen.items())}
    return {"share": round(seen[200] / seen.total(), 4), **counts}


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "async client": async_client,
    "API page": api_page,
}


def main() -> None:
    with article_home() as home:
        record("operate", {name: partial(row, home) for name, row in ROWS.items()})


if __name__ == "__main__":
    main()
