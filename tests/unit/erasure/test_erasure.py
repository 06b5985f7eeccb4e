"""A row that is erased leaves no trace: what is learned is, to the bit, what it would have been."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erasing import (
    BEGAN,
    Service,
    differing,
    hash_of,
    holders,
    label_of,
    learned,
    read_checkpoint,
    without,
)
from rigs import drifting
from steps import BATCH, LAZY, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.unreported import Unreported
from bento_selfheal.core.ids import KEY_BYTES
from bento_selfheal.core.labels import NO_LABEL, index_of_new, name_of_new
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord, Phase, PromotionKind
from bento_selfheal.packaging.model_store import bentoml_home, model_folder
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.erasure.leftovers import Leftovers
from bento_selfheal.simulation.backtest import Backtest

REQUEST = 5
NEEDLE = (7.1234567e-3, -8.7654321e-3, 3.1415927e-3)
"""Values that no other row has."""
Services = Callable[..., Service]


@pytest.fixture
def services(package: Package, tmp_path: Path) -> Iterator[Services]:
    running: list[Service] = []

    def new(name: str, **more: Any) -> Service:
        settings = Settings(
            model=package.tag, state_dir=tmp_path / name, batch_size=BATCH, replay_rate=LAZY,
            lease_seconds=60, heal_share=1, **more,
        )  # fmt: skip
        running.append(Service(settings))
        return running[-1]

    yield new
    for service in running:
        service.close()


def stream(needle: int, clean: int = 60, drifted: int = 180) -> tuple[Any, Any]:
    """Rows and labels, of which one has values of its own."""
    rows, labels = drifting(clean=clean, drifted=drifted)
    rows = rows.astype(np.float32).copy()
    rows[needle, : len(NEEDLE)] = NEEDLE
    return rows, labels


def play(
    service: Service,
    rows: Any,
    labels: Any,
    *,
    unlabelled: tuple[int, ...] = (),
    pause: float = 1.0,
) -> None:
    """Ask for all rows, a few at a time, and label them ten requests later, each by its key."""
    owed: list[FeedbackRecord] = []
    for at in range(0, len(rows), REQUEST):
        now = BEGAN + pause * at / REQUEST
        numbers = range(at, min(at + REQUEST, len(rows)))
        service.ask(rows[numbers], [f"k{n}" for n in numbers], now)
        owed += [label_of(f"k{n}", int(labels[n]), now) for n in numbers if n not in unlabelled]
        if len(owed) >= BATCH:
            service.write(owed)
            service.step()
            owed = []
    if owed:
        service.write(owed)
    service.step()


def erase_and_compare(services: Services, service: Service, key: str, **more: Any) -> Service:
    """Erase a row, and compare with a service that never saw it."""
    assert service.store.erase(key=hash_of(key), by="ana") is not None
    service.step()
    never = services("never", **more)
    without(never, service.written, key)
    work_off(never.runner)
    assert differing(learned(service), learned(never)) == []
    return never


@pytest.mark.parametrize("number", [3, 150, 239], ids=["long ago", "in the buffer", "newest"])
def test_labelled(services: Services, number: int) -> None:
    """Wherever the row stands in the logs, what is learned is what it would be without it; what
    served and had seen it serves no more."""
    service = services("one")
    play(service, *stream(number))
    serving = service.store.promotions()[-1]
    assert serving.kind is not PromotionKind.INITIAL, "something was promoted that saw the row"
    before, dropped = learned(service), {s.version: s for s in service.store.snapshots()}
    erase_and_compare(services, service, f"k{number}")
    assert differing(learned(service), before) != []
    back = service.store.promotions()[-1]
    assert (back.kind, back.by) == (PromotionKind.ROLLBACK, "ana")
    assert service.worker.follower.champion.version == back.version < serving.version
    left = service.store.snapshots()
    assert serving.version not in {s.version for s in left}
    assert not model_folder(dropped[serving.version].tag).exists()
    assert [e.detail for e in service.store.events() if e.kind == "erased"] == [{"by": "ana"}]
    assert service.store.erase(key=hash_of(f"k{number}"), by="ana") is None, "it is gone"


def where(service: Service) -> dict[str, Any]:
    """Keys of rows that the checkpoint knows, by the part that knows them."""
    facts, tensors = read_checkpoint(service)
    batches = facts["batches"]
    keys = tensors["buffer/keys"].numpy()
    return {
        "open": {row["key"] for row in batches["open"]},
        "buffer": {key.tobytes().hex() for key in keys},
        "new": {row[0] for row in batches["new_classes"]["facts"]},
        "waiting": {label["key"] for label in batches["waiting"]},
        "taken back": {row[0] for row in batches["taken_back"]},
    }


def few() -> tuple[Any, Any]:
    return stream(31, clean=20, drifted=50)


def in_the_open_batch(service: Service) -> str:
    rows, labels = few()
    play(service, rows, labels, unlabelled=(31,))
    service.write([label_of("k31", int(labels[31]), BEGAN + 20)])
    service.step()
    assert hash_of("k31").hex() in where(service)["open"]
    return "k31"


def never_labelled(service: Service) -> str:
    play(service, *few(), unlabelled=(31,))
    return "k31"


def corrected_and_taken_back(service: Service) -> str:
    rows, labels = few()
    play(service, rows, labels)
    now = BEGAN + 20
    service.write([label_of("k31", 1 - int(labels[31]), now, corrects=True)])
    service.write([label_of("k31", NO_LABEL, now)])
    service.step()
    assert hash_of("k31").hex() in where(service)["taken back"]
    return "k31"


def of_a_new_class(service: Service) -> str:
    rows, labels = few()
    play(service, rows, labels, unlabelled=(31,))
    name = name_of_new("grey")
    service.write([label_of("k31", index_of_new(name), BEGAN + 20, new_class=name)])
    service.step()
    assert hash_of("k31").hex() in where(service)["new"]
    return "k31"


def labelled_before_it_was_asked(service: Service) -> str:
    rows, labels = few()
    service.write([label_of("k31", int(labels[31]), BEGAN)])
    play(service, rows, labels, unlabelled=(31,))
    return "k31"


def never_asked(service: Service) -> str:
    play(service, *few())
    service.write([label_of("other", 1, BEGAN + 20)])
    service.step()
    assert hash_of("other").hex() in where(service)["waiting"]
    return "other"


def asked_several_times(service: Service) -> str:
    rows, labels = few()
    play(service, rows, labels, unlabelled=(31,))
    service.ask(rows[30:33], ["k31", "new-1", "new-2"], BEGAN + 20)
    service.ask(rows[31:32], ["k31"], BEGAN + 21)  # a request of its own: nothing is left of it
    service.write([label_of("k31", int(labels[31]), BEGAN + 22)])
    play_on(service, rows)
    return "k31"


def play_on(service: Service, rows: Any) -> None:
    """More requests, with labels."""
    for at in range(0, 20, REQUEST):
        keys = [f"more-{n}" for n in range(at, at + REQUEST)]
        service.ask(rows[at : at + REQUEST], keys, BEGAN + 30 + at)
        service.write([label_of(key, 1, BEGAN + 30 + at) for key in keys])
    service.step()


def given_by_features(service: Service) -> str:
    rows, labels = few()
    play(service, rows[:30], labels[:30])
    content = hashlib.sha256(rows[31].tobytes()).digest()[:KEY_BYTES]
    service.write([
        FeedbackRecord(content, 0, 1, BEGAN + 20, features=rows[31], key=hash_of("k31"))
    ])  # fmt: skip
    play_on(service, rows)
    assert content.hex() + "00000000" in where(service)["buffer"] | where(service)["open"]
    return "k31"


@pytest.mark.parametrize(
    "written",
    [in_the_open_batch, never_labelled, corrected_and_taken_back, of_a_new_class,
     labelled_before_it_was_asked, never_asked, asked_several_times, given_by_features],
)  # fmt: skip
def test_wherever_it_is(services: Services, written: Callable[[Service], str]) -> None:
    """The row leaves no trace, whatever became of it."""
    service = services("one")
    key = written(service)
    erase_and_compare(services, service, key)
    assert hash_of(key).hex() not in str(where(service))
    assert list(holders({key: hash_of(key)}, service.settings.state_dir)) == []


def test_nobody_reports_it(services: Services) -> None:
    """A row that matured as the class that is never reported is erased like one with a label."""
    unreported = Unreported(**{"class": 0, "after": "5s"})
    service = services("one", unreported=unreported)
    rows, labels = few()
    play(service, rows, labels, unlabelled=(*np.flatnonzero(labels == 0).tolist(), 31))
    assert hash_of("k31").hex() in where(service)["buffer"] | where(service)["open"]
    erase_and_compare(services, service, "k31", unreported=unreported)


def test_votes(services: Services) -> None:
    """All votes about the row go, whoever cast them."""
    service = services("one", conflicts="votes")
    rows, labels = few()
    play(service, rows, labels)
    for source in ("a", "b", "c"):
        service.write([label_of("k31", 1 - int(labels[31]), BEGAN + 20, source=source)])
    service.step()
    assert service.sql("select count(*) from votes where name = ?", hash_of("k31")) == [(4,)]
    erase_and_compare(services, service, "k31", conflicts="votes")
    assert service.sql("select count(*) from votes where name = ?", hash_of("k31")) == [(0,)]
    assert service.sql("select count(*) from votes") != [(0,)]


def test_by_prediction_id(services: Services) -> None:
    """A row without a key is erased by the place that its id names, and only once; the other rows
    of its request keep theirs. A label that comes later teaches nothing."""
    service = services("one")
    rows, labels = few()
    play(service, rows, labels)
    asked = service.ask(rows[29:32], [], BEGAN + 20)
    place = asked.request, 2
    by_id = [FeedbackRecord(asked.request, n, int(labels[29 + n]), BEGAN + 21) for n in range(3)]
    service.write(by_id)
    service.step()
    written = list(service.written)
    assert service.store.erase(place=place, by="ana") is not None
    service.step()
    never = services("never")
    without(never, written, None, place)
    work_off(never.runner)
    assert differing(learned(service), learned(never)) == []
    assert service.store.erase(place=place, by="ana") is None
    labels_before = service.store.status()["labels"]
    service.write(by_id[2:])
    service.step()
    after = service.store.status()["labels"]
    assert (after["unmatched"], after["joined"]) == (
        labels_before["unmatched"] + 1, labels_before["joined"],
    )  # fmt: skip
    service.write(
        [FeedbackRecord(asked.request, 1, 1 - int(labels[30]), BEGAN + 21, corrects=True)]
    )
    service.step()
    assert service.store.status()["labels"]["corrected"] == 1


def test_label_after_erasure(services: Services) -> None:
    """A label of an erased key waits, as of a row that nobody asked for; it brings nothing back."""
    service = services("one")
    rows, labels = few()
    play(service, rows, labels)
    service.store.erase(key=hash_of("k31"), by="ana")
    service.step()
    before = service.store.status()["labels"]
    told = service.store.add_feedback([label_of("k31", 1, BEGAN + 50)])
    assert (told.outcomes, told.waiting) == ([FeedbackOutcome.ACCEPTED], {0})
    service.step()
    after = service.store.status()["labels"]
    assert (after["waiting"], after["joined"]) == (before["waiting"] + 1, before["joined"])
    values = {"values": rows[31].tobytes()[:12]}
    assert list(holders(values, service.settings.state_dir)) == []


def test_beyond_retention(services: Services) -> None:
    """Where retention has taken the beginning of the logs, the state is that of a pipeline which
    began where they begin now; what may have seen the row is dropped, also where the logs hold
    nothing of it any more."""
    service = services("one")
    play(service, *stream(3))
    assert service.store.promotions()[-1].kind is not PromotionKind.INITIAL
    assert hash_of("k3").hex() in where(service)["buffer"]
    service.store.retire_predictions(0.0, service.store.logged()[0] // 2, limit=1000)
    service.sql("delete from feedback where key = ?", hash_of("k3"))
    assert service.sql("select 1 from prediction_keys where key = ?", hash_of("k3")) == []
    assert service.store.erase(key=hash_of("k3"), by="ana") is not None
    service.step()
    known = where(service)["buffer"]
    assert known
    assert hash_of("k3").hex() not in known
    assert [s.phase for s in service.store.snapshots()] == [Phase.CLEAN]
    assert service.store.status()["serving"]["version"] == 1


def test_controls_outlive_it(services: Services) -> None:
    """What operators have asked for holds afterwards: a pause, and a source that was forgotten."""
    service = services("one")
    rows, labels = few()
    play(service, rows, labels)
    service.worker.operations.forget("liar")
    service.worker.operations.command("pause")
    service.step()
    service.store.erase(key=hash_of("k31"), by="ana")
    assert service.store.status()["rebuilding"] is True
    service.step()
    status = service.store.status()
    assert status["paused"]
    assert status["sources"]["liar"]["quarantined"]
    assert "rebuilding" not in status
    assert [e.kind for e in service.store.events()][-1] == "rebuilt"


def test_commands_meanwhile_are_told(services: Services) -> None:
    """What operators ask for while the state is built anew is an event, as at any time, and what
    they had asked for before is none again."""
    service = services("one")
    play(service, *few())
    service.worker.operations.command("observe", "ana")
    service.step()
    service.store.erase(key=hash_of("k31"), by="ana")
    service.worker.operations.forget("liar", "bob")
    service.worker.operations.command("pause", "bob")
    service.store.erase(key=hash_of("k32"), by="ana")
    service.step()
    told = [(e.kind, e.detail.get("by")) for e in service.store.events()]
    assert told[-3:] == [("rebuilt", None), ("quarantine", "bob"), ("pause", "bob")]
    assert told.count(("observe", "ana")) == 1
    assert service.store.status()["paused"]


def test_unknown(services: Services) -> None:
    """A key that nothing is kept of changes nothing."""
    service = services("one")
    play(service, *few())
    before = service.store.state(), service.store.events(), service.store.leader()
    assert service.store.erase(key=hash_of("nobody"), by="ana") is None
    assert (service.store.state(), service.store.events(), service.store.leader()) == before


def test_leaves_no_bytes(services: Services, home: Path) -> None:
    """No file of the store, the model store or the exports holds the row's values or its key."""
    service = services("one", retrain_batches=1)
    rows, labels = stream(150)
    play(service, rows, 1 - labels)
    exports = service.settings.state_dir / "exports"
    assert list(exports.glob("*.parquet"))
    values = rows[150].tobytes()[: 4 * len(NEEDLE)]
    needles = {"values": values, "key": hash_of("k150"), "hex": hash_of("k150").hex().encode()}
    folders = service.settings.state_dir, bentoml_home()
    assert {name for name, _ in holders(needles, *folders)} >= {"values", "key"}
    old = list(exports.glob("*.parquet"))
    assert service.store.erase(key=hash_of("k150"), by="ana") is not None
    assert list(holders(needles, *folders)) == [], "before any runner has looked"
    service.step()
    assert list(holders(needles, *folders)) == []
    assert not any(path.exists() for path in old) or service.store.status()["retrain"]


def test_a_backtest_of_the_log(services: Services) -> None:
    """A label that comes for an erased row by its id counts in no figure of a backtest either."""
    service = services("one")
    rows, _ = few()
    asked = service.ask(rows[:3], [], BEGAN)
    service.write([FeedbackRecord(asked.request, n, 1, BEGAN + 1) for n in (0, 1)])
    assert service.store.erase(place=(asked.request, 1), by="ana") is not None
    service.write([FeedbackRecord(asked.request, n, 1, BEGAN + 2) for n in (1, 2)])
    run = Backtest(service.worker.package, service.settings)
    run.replay(service.store, 0, 0)
    assert run.labelled == 2


def test_the_review_queue(services: Services) -> None:
    """The queue is that of the state which is built anew: of rows that the runner had not read as
    well, of each once, those that somebody has been given included; the erased row is in it no
    more."""
    service = services("one", review="queue", review_budget=100_000)
    rows, _ = few()
    for n in range(6):
        service.ask(rows[5 * n : 5 * n + 5], [f"k{m}" for m in range(5 * n, 5 * n + 5)], BEGAN + n)
        if n == 2:
            service.step()
            given = service.store.hand_out(4, BEGAN + 5).rows
    assert service.store.erase(key=hash_of("k7"), by="ana") is not None
    service.step()
    rest = service.store.hand_out(1000, BEGAN + 10).rows
    found = sorted((int(one.asked.time - BEGAN), one.asked.row) for one in given + rest)
    assert found == [(n, row) for n in range(6) for row in range(5) if (n, row) != (1, 2)]


def test_an_export_that_was_under_way(services: Services) -> None:
    """A step that was written just before the erasure exports its rows after it; that file goes
    too, and what is exported afterwards stays, also when the runner starts again."""
    service = services("one")
    play(service, *few())
    exports = service.settings.state_dir / "exports"
    exports.mkdir(exist_ok=True)
    assert service.store.erase(key=hash_of("k31"), by="ana") is not None
    (exports / "retrain-late-1.parquet").write_text("holds the row")
    service.step()
    assert list(exports.iterdir()) == []
    (exports / "retrain-new-2.parquet").write_text("does not")
    Leftovers(service.store, exports).remove()
    assert len(list(exports.iterdir())) == 1
