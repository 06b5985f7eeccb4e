"""Converts records to rows of the tables, and back."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from bento_selfheal.core.decision import point_of
from bento_selfheal.core.records import (
    Event,
    FeedbackRecord,
    Measurement,
    OperatingPoint,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    Snapshot,
)
from bento_selfheal.errors import storable

HALF = b"\0"
"""Makes the length of a blob of float16 odd, which that of float32 never is."""
PROMOTION_FIELDS = [field.name for field in fields(Promotion)]


def check_text(name: str, text: str | None) -> str | None:
    """A text that every database can hold.

    Raises:
        ValueError: It holds a NUL, or half of a surrogate pair, which is not valid Unicode.
    """
    if text is None:
        return None
    try:
        kept = b"\0" not in text.encode()
    except UnicodeEncodeError:
        kept = False
    if not kept:
        raise ValueError(f"{name}: {text!a} holds a character that the store cannot keep")
    return text


def pack(values: NDArray[np.float32]) -> bytes:
    """Numbers as a little-endian blob: of float16, with a byte behind it, where that loses nothing.

    Hidden vectors, categories and small numbers take half the space so. A copy: drivers take twice
    as long for a memoryview.
    """
    whole = np.ascontiguousarray(values, dtype="<f4")
    with np.errstate(over="ignore"):
        half = whole.astype("<f2")
    if np.array_equal(half.astype("<f4").view("<u4"), whole.view("<u4")):
        return half.tobytes() + HALF
    return whole.tobytes()


def unpack(blob: bytes) -> NDArray[np.float32]:
    """The numbers of a blob, ``(n,)``."""
    if len(blob) % 2:
        return np.frombuffer(blob, dtype="<f2", count=len(blob) // 2).astype(np.float32)
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def prediction_row(r: PredictionRecord) -> dict[str, Any]:
    """A request of the prediction log, without its place and size."""
    return {
        "request": r.request,
        "rows": len(r.probabilities),
        "version": r.version,
        "time": r.time,
        "features": pack(r.features),
        "probabilities": pack(r.probabilities),
        "own_keys": r.keys or None,
        "review": r.review or None,
        "erased": r.erased or None,
    }


def prediction(r: Row[Any]) -> PredictionRecord:
    """A request of the prediction log, from its row."""
    flat = unpack(r.probabilities)
    return PredictionRecord(
        request=bytes(r.request),
        features=_table(unpack(r.features), r.rows),
        # One number a row of two classes, one column a class of more.
        probabilities=flat if len(flat) == r.rows else _table(flat, r.rows),
        version=r.version,
        time=r.time,
        seq=r.seq,
        keys=bytes(r.own_keys or b""),
        review=bytes(r.review or b""),
        retried=bool(r.retried),
        erased=bytes(r.erased or b""),
    )


def _table(flat: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """One row for each, or one of all where they do not fit: readers see that, and go on."""
    fits = rows and len(flat) % rows == 0
    return flat.reshape(rows, -1) if fits else flat.reshape(1, len(flat))


def feedback_row(r: FeedbackRecord, revision: int, after: int) -> dict[str, Any]:
    """A label under its revision, with the newest prediction before it."""
    return {
        "request": r.request,
        "row": r.row,
        "revision": revision,
        "label": r.label,
        "time": r.time,
        "source": check_text("source", r.source),
        "features": None if r.features is None else pack(r.features),
        "trace": r.trace,
        "after": after,
        "key": r.key,
        "new_class": r.new_class,
    }


def feedback(r: Row[Any]) -> FeedbackRecord:
    """A label of the feedback log, from its row."""
    return FeedbackRecord(
        request=bytes(r.request),
        row=r.row,
        label=r.label,
        time=r.time,
        source=r.source,
        features=None if r.features is None else unpack(r.features),
        corrects=r.revision > 0,
        trace=r.trace,
        after=r.after,
        seq=r.seq,
        key=None if r.key is None else bytes(r.key),
        new_class=r.new_class,
    )


def snapshot_row(s: Snapshot) -> dict[str, Any]:
    """A snapshot that is kept; what it served with last is left as it is."""
    return {**asdict(s), "phase": s.phase.value, "kept": True}


def snapshot(r: Row[Any]) -> Snapshot:
    """A snapshot, kept or dropped, from its row."""
    values = {k: v for k, v in r._mapping.items() if k not in ("kept", "operating_point")}
    return replace(Snapshot(**values), phase=Phase(r.phase))


def promotion_row(p: Promotion) -> dict[str, Any]:
    """A promotion, without its place."""
    point = p.operating_point
    row = {**asdict(p), "kind": p.kind.value, "operating_point": point and point.as_dict()}
    row["share"] = p.share if p.share < 1 else None
    del row["seq"]
    return row


def promotion(r: Row[Any]) -> Promotion:
    """A promotion, from its row; further columns are ignored."""
    values = {name: r._mapping[name] for name in PROMOTION_FIELDS}
    values |= {"kind": PromotionKind(r.kind), "operating_point": point(r.operating_point)}
    values["share"] = 1.0 if r.share is None else r.share
    return Promotion(**values)


def point(values: dict[str, Any] | None) -> OperatingPoint | None:
    """An operating point, from its JSON values; None where there are none."""
    return None if values is None else point_of(values)


def measurement_row(m: Measurement) -> dict[str, Any]:
    """The figures of one moment, without their place."""
    row = asdict(m)
    del row["seq"]
    return row


def measurement(r: Row[Any]) -> Measurement:
    """The figures of one moment, from their row."""
    return Measurement(**r._mapping)


def event_row(e: Event) -> dict[str, Any]:
    """An event, without its place."""
    row = asdict(e)
    del row["seq"]
    return row


def event(r: Row[Any]) -> Event:
    """An event, from its row."""
    # Earlier releases stored texts as they came; no answer could hold a lone surrogate.
    return Event(**{**r._mapping, "detail": storable(r.detail)})
