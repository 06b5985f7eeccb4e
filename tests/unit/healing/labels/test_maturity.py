"""Rows wait until they are old enough, where one class is never reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rigs import BATCH, Rig

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.unreported import Unreported
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.errors import SettingsError
from bento_selfheal.healing.labels.join import joined_row
from bento_selfheal.healing.labels.maturity import Maturity
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream

SETTING = Unreported.model_validate({"class": "no", "after": "10s"})


def asked_at(seq: int, rows: int = 3, keys: bytes = b"") -> PredictionRecord:
    """A request at a second of its own."""
    features = np.full((rows, 2), seq, np.float32)
    answers = np.full(rows, 0.5, np.float32)
    return PredictionRecord(
        seq.to_bytes(12, "big"), features, answers, 1, float(seq), seq=seq, keys=keys
    )


def label_of(asked: PredictionRecord, row: int, label: int, seq: int) -> FeedbackRecord:
    return FeedbackRecord(asked.request, row, label, 0.0, after=asked.seq, seq=seq)


@pytest.fixture
def maturity() -> Maturity:
    return Maturity(SETTING, ["no", "yes"])


def test_early_label_counts_with_its_row(maturity: Maturity) -> None:
    """A label that comes before its row is old enough does not count yet; then the row has it, and
    the others of the request are of the class unreported, all at the age of the request."""
    asked = asked_at(1)
    maturity.answered(asked)
    given = label_of(asked, 1, 1, seq=4)
    assert maturity.hold(joined_row(given, asked.features[1], asked)) is None
    assert maturity.counts.early == 1
    assert not maturity.is_mature(asked, 10.9)
    assert maturity.is_mature(asked, 11.0)
    maturity.pass_over(asked, 0)
    rows = list(maturity.rows(asked, [given], place=4, now=11.0))
    assert [row.label for row in rows] == [0, 1, 0]
    assert [row.unreported for row in rows] == [True, False, True]
    assert {row.delay for row in rows} == {10.0}
    status = maturity.status()
    assert status is not None
    assert (status["rows"], status["unreported"], status["early"]) == (3, 2, 0)


def test_only_labels_up_to_the_place(maturity: Maturity) -> None:
    """What is in the log behind the runner's place is not known yet, whenever it was written; of
    two revisions the newer one counts."""
    asked = asked_at(1)
    maturity.answered(asked)
    labels = [label_of(asked, 0, 1, seq=9), label_of(asked, 1, 1, seq=3)]
    labels.append(replace(label_of(asked, 1, 0, seq=5), corrects=True))
    rows = list(maturity.rows(asked, labels, place=8, now=11.0))
    assert [(row.label, row.unreported) for row in rows] == [(0, True), (0, False), (0, True)]


def test_late_label_replaces(maturity: Maturity) -> None:
    """A label that comes after its row has matured replaces the class; one that says the same
    changes nothing."""
    asked = asked_at(1)
    maturity.answered(asked)
    maturity.pass_over(asked, 0)
    late = joined_row(label_of(asked, 0, 1, seq=9), asked.features[0], asked)
    counts = maturity.hold(late)
    assert counts is not None
    assert counts.corrects
    assert maturity.hold(replace(late, label=0)) is None
    assert maturity.counts.late == 1


def test_rows_of_before_do_not_wait(maturity: Maturity) -> None:
    """Rows that were answered before the setting count when their label comes, as do rows that
    come with their features."""
    maturity.answered(asked_at(5))
    before = asked_at(4)
    row = joined_row(label_of(before, 0, 1, seq=1), before.features[0], before)
    assert maturity.hold(row) is row
    sent = replace(row, asked=-1)
    assert maturity.hold(sent) is sent


def test_key_that_is_bound_elsewhere(maturity: Maturity) -> None:
    """A row whose key has its label on another row is not of the class unreported."""
    keys = [bytes([n]) * 16 for n in range(2)]
    asked, other = asked_at(1, rows=2, keys=b"".join(keys)), asked_at(2)
    maturity.answered(asked)
    bound = replace(label_of(other, 0, 1, seq=1), key=keys[0])
    rows = list(maturity.rows(asked, [bound], place=1, now=11.0))
    assert [row.key for row in rows] == [keys[1]]


def test_setting_taken_back() -> None:
    """Without the setting, labels of rows that still wait count at once, and nothing else does."""
    with_setting = Maturity(SETTING, ["no", "yes"])
    asked = asked_at(1)
    with_setting.answered(asked)
    other = Maturity(None, ["no", "yes"])
    other.restore(with_setting.state())
    assert other.waits
    assert other.is_mature(asked, 1.0)
    other.pass_over(asked, 0)
    rows = list(other.rows(asked, [label_of(asked, 2, 1, seq=1)], place=1, now=1.0))
    assert [row.label for row in rows] == [1]
    assert not other.waits
    row = joined_row(label_of(asked, 0, 1, seq=2), asked.features[0], asked)
    assert other.hold(row) is row


def test_checkpoint(maturity: Maturity) -> None:
    """A checkpoint keeps places and counts; the last status alone tells where rows wait."""
    for seq in range(1, 5):
        maturity.answered(asked_at(seq))
    maturity.pass_over(asked_at(1), 0)
    maturity.pass_over(asked_at(3), 1)
    other, shown = Maturity(SETTING, ["no", "yes"]), maturity.status()
    other.restore(maturity.state())
    assert other.status() == shown
    assert shown is not None
    assert (shown["lost"], shown["waiting_requests"]) == (1, 1)
    fresh = Maturity(SETTING, ["no", "yes"])
    fresh.take_up(shown, newest=4)
    assert (fresh.places.since, fresh.places.matured, fresh.places.newest) == (0, 3, 4)


def test_late_label_reaches_what_is_trained_on(package: Package) -> None:
    """A fraud that is reported after its row has matured stands in the buffer, or in the batch that
    is open, from then on; anybody may report it, and nobody is judged by rows nobody reported."""
    rig = Rig(package, unreported={"class": 0, "after": "10s"})
    rows = package.reference_rows[: 2 * BATCH]
    asked = PredictionRecord(b"a" * 12, rows, package.baseline(rows), 1, 1.0, seq=1)
    rig.take((asked, None))
    rig.pipeline.mature(asked, [label_of(asked, 3, 1, seq=0)], now=11.0)
    p = rig.pipeline.parts
    assert len(p.buffer) + len(p.batches.open) == 2 * BATCH
    assert p.scoreboard.counts.joined == 1
    before = p.buffer.labels.copy()
    assert before[0] == 0
    late = replace(label_of(asked, 0, 1, seq=1), source="desk")
    rig.take((late, asked))
    assert p.buffer.labels[0] == 1
    assert p.buffer.sources[0] == "desk"
    np.testing.assert_array_equal(p.buffer.labels[1:], before[1:])
    assert rig.status()["labels"]["corrected"] == 1
    assert "quarantine" not in rig.kinds()


def test_classes_that_come_at_different_times(package: Package) -> None:
    """Frauds are known 100 rows after their answer and all others 2,000 after. With the setting all
    rows count in the order in which they were answered, at the same age."""
    stream = demo_stream(40, 5, 2.2, 42)
    run = Backtest(package, Settings(batch_size=100, unreported={"class": 0, "after": "21s"}))
    late = np.where(stream.labels == 1, 100, 2000)
    for _ in run.run(stream, delays=late):
        pass
    asked = run.parts.buffer.rows().asked
    assert asked is not None
    assert len(asked) > 0
    assert (np.diff(asked) >= 0).all()
    status = run.pipeline.status()
    assert status["unreported"]["age_seconds"] == 21.0
    assert (status["unreported"]["unreported"], status["unreported"]["late"]) == (0, 0)
    assert not status["one_sided"]["alarm"]


def test_unknown_class() -> None:
    """A class that the model does not have is refused by its name."""
    with pytest.raises(SettingsError, match=r"unreported\.class: 'no' is no class of the model"):
        Maturity(SETTING, [0, 1])
