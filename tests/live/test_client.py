"""The Python client against real servers: arrays and lists, labels, operators, and bad days."""

from __future__ import annotations

import asyncio
import getpass
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, wait_for
from live import served

from bento_selfheal.client import AsyncClient, Client
from bento_selfheal.core.records import Phase, PromotionKind
from bento_selfheal.errors import CommandError, InvalidInput, StoreError
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.server import ServedService, free_port
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.wire.messages import FeedbackItem


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    """One predict worker with a small limit of rows, whose model stays what it is."""
    folder = tmp_path_factory.mktemp("client")
    with served(home, package, folder, workers=1, max_rows=500, mode="observe") as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def rows(n: int, seed: int = 0) -> Any:
    return article_rows(n, 1.0, np.random.default_rng(seed)).rows


def items(ids: list[str], label: int = 1, **more: Any) -> list[FeedbackItem]:
    return [FeedbackItem(prediction_id=i, label=label, **more) for i in ids]


def test_arrays_and_lists_get_the_same_answer(client: Client, package: Package) -> None:
    """Arrays of any layout, lists and objects by name are answered alike, and ids of each are
    good for feedback."""
    table = rows(40)
    lists = client.predict(table.tolist())
    named = client.predict([dict(zip(ARTICLE_FEATURES, r, strict=True)) for r in table.tolist()])
    arrays = [client.predict(a) for a in (table, table.astype(">f8"), np.asfortranarray(table))]
    for answer in (named, *arrays):
        assert answer.probabilities == pytest.approx(lists.probabilities, abs=1e-6)
        assert answer.decisions == lists.decisions
        assert (answer.threshold, answer.verified, answer.model_version) == (0.5, True, 1)
    assert lists.probabilities == pytest.approx(package.baseline(table).tolist(), abs=1e-6)
    for answer in (lists, named, *arrays):
        assert len(set(answer.prediction_ids)) == 40
        assert client.feedback(items(answer.prediction_ids)).accepted == 40


@pytest.mark.slow
def test_many_classes(home: Path, tmp_path: Path) -> None:
    """Of classes that no header can hold, named in any script, an array gets the names that a list
    gets, from both clients; they are asked for once."""
    generator = np.random.default_rng(3)
    labels = np.arange(900) % 60
    table = generator.normal(size=(900, 2)).astype(np.float32) + 3 * labels[:, None]
    names = np.asarray([f"Größe {n} 中" + "x" * 85 for n in range(60)])
    training = Training(epochs=2)
    package = package_model(
        "client-classes", table, names[labels], features=["a", "b"], training=training
    )
    with served(home, package, tmp_path, workers=1) as server, Client(server.url) as client:
        array, lists = client.predict(table), client.predict(table.tolist())
        assert asyncio.run(_decided(server.url, table)) == array.decisions == lists.decisions
        assert set(array.decisions) <= set(names.tolist())
        assert np.asarray(array.probabilities).shape == (900, 60)
        given = [
            FeedbackItem(prediction_id=i, label=label)
            for i, label in zip(array.prediction_ids, names[labels].tolist(), strict=True)
        ]
        assert client.feedback(given).accepted == 900


async def _decided(url: str, table: Any) -> list[Any]:
    """The classes that the asyncio client names, the same each time."""
    async with AsyncClient(url) as client:
        first, second = [(await client.predict(table)).decisions for _ in range(2)]
    assert first == second
    return first


def test_labels_count_once(client: Client) -> None:
    """Feedback sent again is known, conflicts are named, and a correction replaces."""
    ids = client.predict(rows(3)).prediction_ids
    assert client.feedback(items(ids)).accepted == 3
    assert client.feedback(items(ids)).already_known == 3
    counts = client.feedback([*items(ids[:1], label=0), *items(["nobody.0"])])
    assert (counts.in_conflict, counts.unknown, counts.unknown_ids) == (1, 1, ["nobody.0"])
    assert counts.conflicts[0]["kept"] == 1
    assert client.feedback(items(ids[:1], label=0, corrects=True)).accepted == 1
    by_row = FeedbackItem(features=rows(1)[0], label=1, key="till-7")
    assert client.feedback([by_row]).accepted == 1


def test_labels_by_key(client: Client) -> None:
    """Rows of arrays, lists and tables are labelled by keys of the user's own, which count once;
    more keys than a header holds are fine too."""
    table, many = rows(900, seed=4), [f"payment-{n}" for n in range(900)]
    frame = pd.DataFrame(table, columns=ARTICLE_FEATURES)
    client.predict(table[:300], keys=many[:300])
    client.predict(table[300:302].tolist(), keys=[302, "payment-303"])
    client.predict(frame[310:700], keys=pd.Series(many[310:700]))
    named = [*many[:300], "302", "payment-303", *many[310:700]]
    answer = client.feedback([{"key": key, "label": 1} for key in named[:400]])
    assert (answer.accepted, answer.unknown) == (400, 0)
    asked = [FeedbackItem(key=key, label=1) for key in named]
    later = [client.feedback(part) for part in (asked[:400], asked[400:])]
    assert [(one.accepted, one.already_known) for one in later] == [(0, 400), (292, 0)]
    with pytest.raises(InvalidInput, match=r"keys\.1: 'a' is the key of row 0"):
        client.predict(table[:2], keys=["a", "a"])
    with pytest.raises(InvalidInput, match="2 keys for 3 rows"):
        client.predict(frame[:3], keys=["a", "b"])


def test_bad_input_is_named(client: Client) -> None:
    """The error names row, field and value as the service said, whatever way the rows went."""
    table = rows(3)
    table[1, 7] = np.nan
    for bad in (table, table.tolist()):
        with pytest.raises(InvalidInput, match="nan") as refused:
            client.predict(bad)
        assert refused.value.loc == ("rows", 1, "V14")
        assert refused.value.kind == "not_finite"
    with pytest.raises(InvalidInput, match="501 rows"):
        client.predict(rows(501))
    with pytest.raises(InvalidInput, match="9 values"):
        client.predict([[0.0] * 9])
    (one,) = client.predict(rows(1)).prediction_ids
    with pytest.raises(InvalidInput, match=r"items\.0\.label: 0.5 is not a class"):
        client.feedback(items([one], label=0.5))
    with pytest.raises(InvalidInput, match=r"items\.0\.weight"):
        client.feedback([{"prediction_id": one, "label": 1, "weight": 2}])
    with pytest.raises(InvalidInput, match="source"):
        client.forget("")
    with pytest.raises(InvalidInput, match=r"version.*'five'"):
        client.rollback("five")  # type: ignore[arg-type]


def test_operators(client: Client, package: Package) -> None:
    """Status, snapshots, promotions and events come as typed records; commands are carried out."""
    wait_for(lambda: "state" in client.status(), "the runner's first status")
    assert client.status()["model"] == package.tag
    (clean,) = [s for s in client.snapshots() if s.phase is Phase.CLEAN]
    assert (clean.version, clean.serving) == (1, True)
    (initial,) = client.promotions()
    assert (initial.kind, initial.version, initial.by) == (
        PromotionKind.INITIAL,
        1,
        getpass.getuser(),
    )
    assert client.promotions(after=initial.seq) == []
    assert [e.kind for e in client.events(after=0, limit=1)] == ["deployed"]
    newest = client.events(limit=1)[0]
    assert client.events(before=newest.seq + 1)[-1] == newest
    with pytest.raises(CommandError, match="no snapshot 99"):
        client.rollback(99)
    assert client.pause().command == "pause"
    wait_for(lambda: client.status()["paused"], "paused")
    assert client.resume().command == "resume"
    wait_for(lambda: not client.status()["paused"], "resumed")
    assert client.heal().command == "heal"
    assert client.forget("somebody").command == "forget"


def test_forget_command(server: ServedService, client: Client) -> None:
    """`bento-selfheal forget` asks the service; a bad address or source is one clear line."""

    def forget(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            "from bento_selfheal.cli.main import main; main()",
            "forget",
        ]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)

    done = forget("till-7", "--url", f"{server.url}/")
    assert "requested: forget till-7" in done.stdout, done.stderr
    wait_for(
        lambda: any("till-7" in str(e.detail) for e in client.events()), "the source forgotten"
    )
    for arguments, code, words in (
        (("x", "--url", "nowhere"), 2, "error: url: 'nowhere'"),
        (("", "--url", server.url), 1, "error: body.source"),
        (("x", "--url", f"http://127.0.0.1:{free_port()}"), 1, "error: nothing answers at"),
    ):
        done = forget(*arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_async(server: ServedService, package: Package) -> None:
    """Many predictions at once and their labels, over one client of asyncio."""

    async def many() -> int:
        async with AsyncClient(server.url) as client:
            tables = [rows(10, seed) for seed in range(20)]
            answers = await asyncio.gather(*(client.predict(table) for table in tables))
            for table, answer in zip(tables, answers, strict=True):
                expected = package.baseline(table).tolist()
                assert answer.probabilities == pytest.approx(expected, abs=1e-6)
            counts = await asyncio.gather(
                *(client.feedback(items(answer.prediction_ids)) for answer in answers)
            )
            assert "state" in await client.status()
            assert (await client.snapshots())[0].version == 1
            assert (await client.promotions())[0].kind is PromotionKind.INITIAL
            assert (await client.events())[0].kind == "deployed"
            assert (await client.pause()).command == "pause"
            assert (await client.resume()).command == "resume"
            assert (await client.heal()).command == "heal"
            assert (await client.forget("nobody")).command == "forget"
            with pytest.raises(CommandError):
                await client.rollback(99)
            return sum(c.accepted for c in counts)

    assert asyncio.run(many()) == 200


@pytest.mark.slow
def test_a_service_that_is_down_comes_back(home: Path, package: Package, tmp_path: Path) -> None:
    """Calls that find nobody, or whose server is killed under them, are answered once it is up
    again; no label is lost and none counts twice."""
    port = free_port()
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(tmp_path / "state"),
           "SELFHEAL_WORKERS": "1"}  # fmt: skip

    def start() -> ServedService:
        return ServedService(
            "service:SelfHealing", home=home, log=tmp_path / "log", cwd=ROOT, env=env, port=port
        )

    with (
        ThreadPoolExecutor(1) as thread,
        Client(f"http://127.0.0.1:{port}", retry_seconds=90) as client,
    ):
        early = thread.submit(client.predict, rows(4))
        with start() as server:
            ids = early.result().prediction_ids
            assert client.feedback(items(ids[:2])).accepted == 2
            server.kill()
            late = thread.submit(client.feedback, items(ids))
            time.sleep(0.3)  # the first tries meet nobody
            assert not late.done()
        with start():
            counts = late.result()
            assert (counts.accepted, counts.already_known) == (2, 2)


@pytest.mark.slow
def test_a_store_that_is_away(server: ServedService, client: Client) -> None:
    """While the store takes no labels feedback fails with its words, or waits until it does."""
    ids = client.predict(rows(5)).prediction_ids
    with closing(sqlite3.connect(server.log.parent / "state" / "selfheal.db", timeout=30)) as db:
        db.execute("ALTER TABLE feedback RENAME TO away")
        with (
            Client(server.url, retry_seconds=1.5) as hasty,
            pytest.raises(StoreError, match=r"503 .*cannot write to the store"),
        ):
            hasty.feedback(items(ids))
        with ThreadPoolExecutor(1) as thread:
            patient = thread.submit(client.feedback, items(ids))
            time.sleep(0.3)
            assert not patient.done()
            db.execute("ALTER TABLE away RENAME TO feedback")
            assert patient.result().accepted == 5
