"""The joiner: late labels meet their predictions at one place of the log, found when they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bento_selfheal.core.log.horizon import Horizon
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.healing.labels.join import LATE_PLACES, LATE_SECONDS, JoinedRow, Joiner, row_key


def asked(seq: int, rows: int = 3) -> PredictionRecord:
    """A logged request; every number in it tells which one it is."""
    features = np.full((rows, 2), seq, dtype=np.float32) + np.arange(rows)[:, None] / 10
    return PredictionRecord(
        seq.to_bytes(12, "big"), features.astype(np.float32),
        np.linspace(0.1, 0.9, rows, dtype=np.float32), 7, 100.0 + seq, seq,
    )  # fmt: skip


def label(of: int, after: int, seq: int, *, row: int = 0, given: int = 1, **more: object) -> (
    FeedbackRecord
):  # fmt: skip
    return FeedbackRecord(
        of.to_bytes(12, "big"), row, given, 150.0, after=after, seq=seq, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_joins_a_late_label() -> None:
    """A label behind its prediction joins at once, with what was answered, by whom, how late."""
    [row] = Joiner(10).label(label(4, 6, 1, row=2), asked(4))
    assert row.key == row_key((4).to_bytes(12, "big"), 2)
    assert row.features.tolist() == asked(4).features[2].tolist()
    assert row.probability == float(np.float32(0.9))
    assert (row.label, row.version, row.delay, row.feedback_seq) == (1, 7, 46.0, 1)


def test_delay_is_never_negative() -> None:
    """Clocks of two machines may disagree; a delay is 0 then."""
    [row] = Joiner(10).label(label(90, 99, 1), asked(90))
    assert row.delay == 0.0


def test_early_label_waits() -> None:
    """A label written before its prediction joins when the prediction is read, once."""
    joiner = Joiner(10)
    assert joiner.label(label(4, 3, 1), asked(4)) == []
    assert joiner.label(label(4, 3, 2, row=1), None) == []
    assert joiner.waiting == 2
    assert [r.feedback_seq for r in joiner.prediction(asked(4))] == [1, 2]
    assert joiner.waiting == 0
    assert joiner.prediction(asked(4)) == []


def test_never_comes() -> None:
    """A label whose prediction was left out of the log, or retired long ago, waits for nothing."""
    joiner = Joiner(10)
    left_out = FeedbackRecord(bytes(6) + b"\x80" + bytes(5), 0, 1, 150.0, after=3)
    retired = FeedbackRecord(bytes(12), 0, 1, LATE_SECONDS + 1, after=3)
    assert joiner.label(left_out, None) == joiner.label(retired, None) == []
    assert (joiner.waiting, joiner.unmatched) == (0, 2)


def test_retired() -> None:
    """A label whose prediction retention has taken is given up; one that may be early waits,
    also where a clock was set back."""
    seconds = 100_000.0
    key = int(seconds * 1000).to_bytes(6, "big") + bytes(6)
    horizon = Horizon(seq=9, issued=seconds + 50)
    for after, delay, gone in ((8, 1, True), (9, 11, True), (9, 1, False), (9, 60, True)):
        joiner = Joiner(10)
        given = FeedbackRecord(key, 0, 1, seconds + delay, after=after)
        assert joiner.label(given, None, horizon) == []
        assert (joiner.unmatched, joiner.waiting) == (int(gone), int(not gone))
    joiner = Joiner(10)
    assert joiner.label(FeedbackRecord(key, 0, 1, seconds + 60, after=9), None, None) == []
    here = PredictionRecord(key, asked(9).features, asked(9).probabilities, 7, seconds, 10)
    assert joiner.label(FeedbackRecord(key, 1, 1, seconds + 60, after=9), here, horizon) == []
    assert joiner.waiting == 2


def test_waits_an_hour() -> None:
    """What has waited for an hour is given up, for it goes into every checkpoint; but not because
    a clock was set forward."""
    joiner = Joiner(10)
    for seq, of in enumerate((11, 12), start=1):
        joiner.label(replace(label(of, 5, seq), time=150.0 + seq), None)
    later = replace(asked(20), time=151.5 + LATE_SECONDS)
    assert joiner.prediction(later) == []
    assert (joiner.waiting, joiner.unmatched) == (2, 0)
    assert joiner.prediction(replace(later, seq=6 + LATE_PLACES)) == []
    assert (joiner.waiting, joiner.unmatched) == (1, 1)
    assert [r.feedback_seq for r in joiner.prediction(asked(12))] == [2]


def test_row_with_features() -> None:
    """A row that came with its label needs no prediction, and was answered by nobody."""
    features = np.asarray([1.0, 2.0], dtype=np.float32)
    [row] = Joiner(10).label(label(4, 0, 1, features=features), None)
    assert row.features is features
    assert (row.probability, row.version, row.delay) == (None, None, None)


def test_waiting_is_bounded() -> None:
    """Beyond the limit the oldest waiting label is given up and counted; its prediction then
    finds none."""
    joiner = Joiner(2)
    for seq, of in enumerate((11, 12, 13), start=1):
        joiner.label(label(of, 5, seq), None)
    assert (joiner.waiting, joiner.unmatched) == (2, 1)
    assert joiner.prediction(asked(11)) == []
    assert [r.feedback_seq for r in joiner.prediction(asked(12))] == [2]


def test_pending_restores() -> None:
    """What waits can be put into a fresh joiner, which then joins the same and gives up the
    same."""
    one = Joiner(3)
    for seq, of in enumerate((11, 12, 11, 13), start=1):
        one.label(label(of, 5, seq), None)
    other = Joiner(3)
    other.restore(one.pending(), one.unmatched)
    assert (other.waiting, other.unmatched) == (one.waiting, one.unmatched)
    assert other.pending() == one.pending()
    one.label(label(14, 5, 5), None)
    other.label(label(14, 5, 5), None)
    assert other.pending() == one.pending()


@st.composite
def logs(draw: st.DrawFn) -> list[PredictionRecord | FeedbackRecord]:
    """Both logs in their common order: labels early and late, some of requests never logged."""
    entries: list[PredictionRecord | FeedbackRecord] = []
    done, labels = 0, 0
    for step in draw(st.lists(st.sampled_from(["p", "early", "late"]), max_size=25)):
        if step == "p":
            done += 1
            entries.append(asked(done))
        else:
            of = draw(st.integers(1, max(done, 1)) if step == "late" else
                      st.integers(done + 1, done + 4))  # fmt: skip
            labels += 1
            entries.append(label(of, done, labels, row=labels % 3))
    return entries


@given(log=logs())
def test_found_when(log: Sequence[PredictionRecord | FeedbackRecord]) -> None:
    """Joined rows and their order do not depend on whether an early label's prediction had
    been found in the log already."""

    def run(find: bool) -> list[tuple[int, bytes]]:
        joiner = Joiner(1000)
        logged = {e.request: e for e in log if isinstance(e, PredictionRecord)}
        out: list[JoinedRow] = []
        for entry in log:
            if isinstance(entry, PredictionRecord):
                out += joiner.prediction(entry)
                continue
            found = logged.get(entry.request)
            early = found is not None and found.seq > entry.after
            # A reader far behind finds every prediction; one at the end only the earlier ones.
            out += joiner.label(entry, found if find or not early else None)
        return [(r.feedback_seq, r.key) for r in out]

    assert run(True) == run(False)
