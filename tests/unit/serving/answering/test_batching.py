"""A heavy model answers those who wait together, in its thread, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from bento_selfheal.errors import Overloaded
from bento_selfheal.serving.answering.batching import Batching

LONG = 20.0


class Model:
    """Doubles numbers, one batch whenever it is let go on; negative ones are its errors."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._begun, self._may_end = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, requests: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(requests))
        self.threads.add(threading.current_thread().name)
        self._begun.release()
        assert self._may_end.acquire(timeout=LONG)
        if 0 in requests:
            raise MemoryError("the whole batch fails")
        return [2 * n if n > 0 else ValueError(n) for n in requests]

    async def begun(self) -> None:
        """Wait until a batch is in the thread."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=LONG)

    def end(self, batches: int = 1) -> None:
        """Let batches end."""
        self._may_end.release(batches)


def batching(model: Model, *, most: int = 10, latency: float = LONG) -> Batching[int, int]:
    """Requests are numbers, and as large as their last digit."""
    return Batching(model, lambda n: abs(n) % 10, max_batch_size=most, max_latency=latency)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(test, LONG)

    asyncio.run(in_time())


async def asked(one: Batching[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    """Requests that have all come by now, in their order."""
    tasks = [asyncio.create_task(one.answer(n)) for n in numbers]
    await asyncio.sleep(0)  # each has run up to where it waits
    return tasks


def test_who_waits_is_computed_together() -> None:
    """The first is computed at once and alone; the others wait and share one call, outside the
    event loop's thread, and each gets its own answer."""

    async def test() -> None:
        model = Model()
        one = batching(model)
        first = await asked(one, 1)
        await model.begun()
        others = await asked(one, 11, 21, 31)
        model.end(2)
        assert await asyncio.gather(*first, *others) == [2, 22, 42, 62]
        assert model.batches == [[1], [11, 21, 31]]
        assert len(model.threads) == 1
        assert threading.current_thread().name not in model.threads
        await one.close()

    run(test())


def test_those_of_the_same_moment() -> None:
    """Requests that find the thread idle at the same moment are one batch."""

    async def test() -> None:
        model = Model()
        one = batching(model)
        model.end()
        assert await asyncio.gather(one.answer(1), one.answer(2), one.answer(3)) == [2, 4, 6]
        assert model.batches == [[1, 2, 3]]
        await one.close()

    run(test())


def test_batches_have_a_size() -> None:
    """What does not fit is the next batch, in the order of coming; what is larger than any batch
    is computed alone."""

    async def test() -> None:
        model = Model()
        one = batching(model, most=5)
        tasks = await asked(one, 1)
        await model.begun()
        tasks += await asked(one, 12, 13, 14, 9, 11)
        model.end(6)
        assert await asyncio.gather(*tasks) == [2, 24, 26, 28, 18, 22]
        assert model.batches == [[1], [12, 13], [14], [9], [11]]
        await one.close()

    run(test())


def test_a_failing_request_spoils_no_other() -> None:
    """It gets its own error, and what came beside it gets its answer; where the whole call fails
    all are told, and the next batch is computed."""

    async def test() -> None:
        model = Model()
        one = batching(model)
        model.end(3)
        results = await asyncio.gather(
            one.answer(1), one.answer(-2), one.answer(3), return_exceptions=True
        )
        assert (results[0], results[2]) == (2, 6)
        assert isinstance(results[1], ValueError)
        failed = await asyncio.gather(one.answer(0), one.answer(1), return_exceptions=True)
        assert [type(error) for error in failed] == [MemoryError, MemoryError]
        assert await one.answer(4) == 8
        await one.close()

    run(test())


def test_a_client_that_goes() -> None:
    """Who goes while it waits is not computed; who goes while it is computed disturbs nobody."""

    async def test() -> None:
        model = Model()
        one = batching(model)
        computed, beside = await asked(one, 1, 2)
        await model.begun()
        waiting, stays = await asked(one, 11, 21)
        computed.cancel()
        waiting.cancel()
        model.end(2)
        assert await asyncio.gather(beside, stays) == [4, 42]
        assert model.batches == [[1, 2], [21]]
        await one.close()

    run(test())


def test_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that would be answered later than `max_latency` is refused when it comes; one that
    finds the thread idle is computed however long that takes."""

    async def test() -> None:
        model = Model()
        one = batching(model, most=1, latency=2.5)
        clock = Clock(monkeypatch)
        for _ in range(2):  # each call takes one second; the first must be asked to know
            [task] = await asked(one, 1)
            await model.begun()
            clock.now += 1.0
            model.end()
            assert await task == 2
        first, second, third = await asked(one, 1, 11, 21)
        with pytest.raises(Overloaded, match="2500 ms"):
            await third
        model.end(2)
        assert await asyncio.gather(first, second) == [2, 22]
        await one.close()

    run(test())


def test_refused_after_a_slow_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call takes longer than foreseen, who waited for too long is refused when it ends,
    and the next request is computed."""

    async def test() -> None:
        model = Model()
        one = batching(model, latency=2.5)
        clock = Clock(monkeypatch)
        [first] = await asked(one, 1)
        await model.begun()
        [waits] = await asked(one, 11)
        clock.now += 10.0
        model.end(2)
        assert await first == 2
        with pytest.raises(Overloaded):
            await waits
        assert await one.answer(3) == 6
        await one.close()

    run(test())


class Clock:
    """The event loop's clock, which the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)


def test_closing() -> None:
    """The batch in hand is finished; what waits and what comes is refused; nothing hangs."""

    async def test() -> None:
        model = Model()
        one = batching(model)
        [computed] = await asked(one, 1)
        await model.begun()
        [waiting] = await asked(one, 11)
        closing = asyncio.create_task(one.close())
        with pytest.raises(Overloaded, match="stopping"):
            await waiting
        with pytest.raises(Overloaded, match="stopping"):
            await one.answer(21)
        assert not closing.done()
        model.end()
        await closing
        assert await computed == 2
        assert model.batches == [[1]]

    run(test())
