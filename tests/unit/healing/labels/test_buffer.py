"""The buffer: bounded, newest rows first in rank, a rare class remembered longest."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.join import JoinedRow


def row(place: int, label: int, source: str | None = None) -> JoinedRow:
    """A labelled row that shows its place."""
    features = np.array([place, label], dtype=np.float32)
    return JoinedRow(
        key=place.to_bytes(16, "big"), features=features, label=label, probability=0.5, version=1,
        source=source, delay=0.0, corrects=False, feedback_seq=place, trace=None,
    )  # fmt: skip


def buffer_of(labels: list[int], limit: int = 100, step: int = 7) -> Buffer:
    buffer = Buffer(limit, 2, lambda x: torch.from_numpy(2 * x), lambda h: h[:, 0] + 1)
    rows = [row(i, label) for i, label in enumerate(labels)]
    for at in range(0, len(rows), step):
        buffer.extend(rows[at : at + step])
    return buffer


@given(st.lists(st.integers(0, 2), max_size=400), st.integers(8, 60), st.integers(1, 9))
def test_bounded_and_whole(labels: list[int], limit: int, step: int) -> None:
    """Never over the limit; every column speaks of the same rows, in the order of the labels; the
    newest are all there; nothing weighs less than itself."""
    buffer = buffer_of(labels, limit, step)
    places = buffer.offsets
    assert len(buffer) <= limit
    assert len({len(c) for c in (buffer.keys, buffer.sources, places, buffer.weights)}) == 1
    assert (np.diff(places) > 0).all()
    assert buffer.features[:, 0].tolist() == places.tolist()
    assert buffer.labels.tolist() == [labels[i] for i in places]
    assert buffer.keys == [int(i).to_bytes(16, "big") for i in places]
    newest = min(limit // 4, len(labels))
    assert places[len(places) - newest :].tolist() == list(range(len(labels)))[-newest:][:newest]
    assert (buffer.weights >= 1).all()
    hidden, frozen = buffer.rows().hidden, buffer.rows().frozen
    assert hidden is not None
    assert frozen is not None
    if len(buffer):  # the first rows say how wide it is
        assert np.array_equal(hidden.numpy(), 2 * buffer.features)
        assert np.array_equal(frozen.numpy(), hidden.numpy()[:, 0] + 1)


def test_rows_that_come_again() -> None:
    """A row whose features came with an earlier label is known as such, in the same batch as in a
    later one, and after a restart."""
    buffer = buffer_of([0] * 10)
    again = [row(3, 0), row(50, 0), row(50, 0)]
    buffer.extend(again)
    other = buffer_of([])
    other.restore(buffer.state())
    for one in (buffer, other):
        repeats = one.rows().repeats
        assert repeats is not None
        assert repeats.tolist() == [False] * 10 + [True, False, True]


def test_rare_class_stays() -> None:
    """Of a class with one row in fifty every row is still there when the common one has been
    thinned many times over, and the weights keep its share what it was."""
    labels = [int(i % 50 == 0) for i in range(1000)]
    buffer = buffer_of(labels)
    assert int(buffer.labels.sum()) == 20
    assert buffer.rows().rarest == np.float64(20 / float(buffer.weights.sum()))
    assert abs(buffer.rows().rarest - 0.02) < 0.005
    assert buffer.offsets[0] == 0


def test_even_classes_are_newest() -> None:
    """With classes of like size the oldest rows go, and each kept one stands for itself."""
    buffer = buffer_of([i % 2 for i in range(1000)])
    assert buffer.offsets.tolist() == list(range(1000))[-len(buffer) :]
    assert (buffer.weights == 1).all()


def test_views_stay() -> None:
    """Rows handed out are not written over by later ones."""
    buffer = buffer_of([0, 1] * 10)
    before = buffer.rows()
    kept = before.features.copy()
    buffer.extend([row(i, 1) for i in range(20, 90)])
    buffer.correct((3).to_bytes(16, "big"), 0, "b")
    assert np.array_equal(before.features, kept)
    assert before.labels[3] == 1
    assert buffer.labels[3] == 0


def test_forget() -> None:
    """The rows of one source go, with all that belongs to them; the ages of the others stay."""
    buffer = Buffer(100, 2, lambda x: torch.from_numpy(2 * x), lambda h: h[:, 0] + 1)
    buffer.extend([row(i, i % 2, "ab"[i % 2]) for i in range(10)])
    assert buffer.forget("b") == 5
    assert buffer.offsets.tolist() == [0, 2, 4, 6, 8]
    assert buffer.sources == ["a"] * 5
    assert buffer.forget("b") == 0
