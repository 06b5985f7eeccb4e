"""What daily use costs: the asyncio client beside aiohttp alone.

    make bench-operate            writes benchmarks/results/operate.json (minutes)

Names of rows may follow the command; the others stay as they are. Each figure stands beside its
baseline in the same run: short bursts in turn, so that what else the machine does weighs on both
alike; medians over the bursts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from record import article_home, record
from serving import ours

from bento_selfheal.client import AsyncClient
from bento_selfheal.simulation.streams import ARTICLE_FEATURES
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import NPY

AT_ONCE = 64
REQUESTS = 2000
BURSTS = 7
ASKED = 0.8


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


ROWS: dict[str, Callable[[Path], dict[str, Any]]] = {"async client": async_client}


def main() -> None:
    with article_home() as home:
        record("operate", {name: partial(row, home) for name, row in ROWS.items()})


if __name__ == "__main__":
    main()
