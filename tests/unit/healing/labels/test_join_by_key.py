"""Labels by key: bound by the store or waiting, they join one row at one place of the log, once."""

from __future__ import annotations

from dataclasses import replace

from test_join import asked, label

from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.healing.labels.join import LATE_SECONDS, Joiner

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


def asked_by(seq: int, *keys: bytes) -> PredictionRecord:
    """A logged request whose rows have keys."""
    return replace(asked(seq, len(keys)), keys=b"".join(keys))


def by_key(key: bytes, after: int, seq: int, *, given: int = 1, **more: object) -> FeedbackRecord:
    """A label whose key had no prediction when it was written."""
    record = FeedbackRecord(key[:12], WAITS, given, 150.0, after=after, seq=seq, key=key)
    return replace(record, **more)  # type: ignore[arg-type]


def bound(key: bytes, of: int, row: int, after: int, seq: int, **more: object) -> FeedbackRecord:
    return replace(label(of, after, seq, row=row), key=key, **more)  # type: ignore[arg-type]


def test_bound_label_joins_at_once() -> None:
    """A label that the store has bound joins its row; the row is known by its key from then on."""
    [row] = Joiner(10).label(bound(B, 4, 1, 6, 1), asked_by(4, A, B))
    assert (row.key, row.features.tolist()) == (B, asked(4).features[1].tolist())


def test_early_label_waits_for_its_key() -> None:
    """A label before every prediction of its key waits, and joins the first that has the key."""
    joiner = Joiner(10)
    assert joiner.label(by_key(B, 3, 1), None) == []
    assert joiner.prediction(asked_by(4, A, C)) == joiner.prediction(asked(5)) == []
    assert joiner.waiting == 1
    [row] = joiner.prediction(asked_by(6, A, B))
    assert (row.key, row.features.tolist()) == (B, asked(6).features[1].tolist())
    assert joiner.prediction(asked_by(7, B)) == []
    assert (joiner.waiting, joiner.unmatched) == (0, 0)


def test_read_late_or_early_joins_the_same() -> None:
    """A reader far behind finds the label bound already; it joins at the same place, in the same
    order, as one that has seen it wait."""

    def joined(first: FeedbackRecord) -> list[tuple[int, bytes]]:
        joiner, logged = Joiner(10), asked_by(4, A, B)
        joiner.label(first, logged if first.row != WAITS else None)
        joiner.label(label(4, 3, 2, row=1), None)
        joiner.label(by_key(A, 3, 3), None)
        return [(r.feedback_seq, r.key) for r in joiner.prediction(logged)]

    waited = joined(by_key(B, 3, 1))
    assert waited == joined(bound(B, 4, 1, 3, 1)) == [(1, B), (3, A)]


def test_by_id_and_by_key_before_the_row() -> None:
    """One row that is labelled by its id and by its key before it is logged is learned once; a
    correction of either still reaches it."""
    joiner = Joiner(10)
    joiner.label(by_key(A, 3, 1), None)
    joiner.label(label(4, 3, 2, given=0), None)
    joiner.label(by_key(A, 3, 3, given=0, corrects=True), None)
    rows = joiner.prediction(asked_by(4, A))
    assert [(r.feedback_seq, r.key, r.label, r.corrects) for r in rows] == [
        (1, A, 1, False), (3, A, 0, True),
    ]  # fmt: skip
    assert joiner.unmatched == 1


def test_label_by_id_of_a_row_with_a_key() -> None:
    """A row with a key is one row, whichever way its label names it."""
    [by_id] = Joiner(10).label(label(4, 6, 1, row=1), asked_by(4, A, B))
    assert by_id.key == B


def test_bound_to_what_retention_took() -> None:
    """A label of a row that retention has taken is given up at once; one that waits is not, since
    nobody knows how old its prediction is."""
    joiner = Joiner(10)
    assert joiner.label(bound(A, 4, 0, 6, 1), None) == []
    assert (joiner.waiting, joiner.unmatched) == (0, 1)
    late = by_key(B, 6, 2, time=LATE_SECONDS * 100)
    assert joiner.label(late, None) == []
    assert (joiner.waiting, joiner.unmatched) == (1, 1)


def test_dropped_with_their_prediction() -> None:
    """Labels that wait for a prediction which is set aside are given up with it."""
    joiner = Joiner(10)
    joiner.label(by_key(A, 3, 1), None)
    joiner.drop(asked_by(4, A, B))
    assert (joiner.waiting, joiner.unmatched) == (0, 1)
