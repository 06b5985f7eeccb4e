"""What rows and inputs are sent as: an Arrow stream, a NumPy file, images, text, or JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import numpy as np

from bento_selfheal.core.given import array_of, column_of, is_image, is_missing, table_of
from bento_selfheal.errors import InvalidInput
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import ARROW, FACTS_HEADER, KEYS_HEADER, NPY, text_of_key

JSON, PNG, TEXT = "application/json", "image/png", "text/plain; charset=utf-8"
LONGEST_HEADER = 6_000
"""Bytes of keys and facts in headers, of the 8 kB that proxies take; more go as JSON, with the
rows."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes of Pillow's images that a PNG file holds as they are."""
ORIENTATION = 0x0112
"""The tag of an image's orientation in EXIF."""


@dataclass(frozen=True)
class Body:
    """A request's body, and its Content-Type."""

    content: bytes
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside the Content-Type."""


def body_of(rows: Any, facts: Any = None, keys: Any = None) -> Body:
    """The body of a request about rows or inputs, as `Client.predict` takes them.

    Raises:
        InvalidInput: They hold what no body can carry.
    """
    beside = {"facts": facts, "keys": keys}
    if isinstance(rows, Sequence) and rows and all(is_image(one) for one in rows):
        return _parts([_png(one, ("rows", i)) for i, one in enumerate(rows)], beside)
    file = _file_of(rows, keys)
    if file is not None and facts is None and (keys is None or file.kind == ARROW):
        return file
    own = None if file and file.kind == ARROW else keys
    given = {FACTS_HEADER: (facts, "facts"), KEYS_HEADER: (own, "keys")}
    headers = {name: _told(value, f) for name, (value, f) in given.items() if value is not None}
    if file is not None and sum(map(len, headers.values())) <= LONGEST_HEADER:
        return replace(file, headers=headers)
    if file is not None and file.kind == PNG:
        return _parts([file.content], beside)
    fields = {"rows": [rows] if isinstance(rows, str) else _with_nulls(rows), **beside}
    return json_body({name: value for name, value in fields.items() if value is not None})


def table_body(table: Any) -> Body:
    """A table of labels as an Arrow stream.

    Raises:
        InvalidInput: It is no table.
    """
    try:
        found = table_of(table)
    except ValueError as error:
        raise InvalidInput(("table",), str(error), "type") from error
    if found is None:
        said = f"a table of pandas, polars or Arrow is needed, got {type(table).__name__}"
        raise InvalidInput(("table",), said, "type")
    from bento_selfheal.wire import arrow  # which loads pyarrow

    return Body(arrow.dump(found), ARROW)


def _with_nulls(rows: Any) -> Any:
    """Rows for JSON: gaps of an array, which a NumPy file says as NaN, are null."""
    array = array_of(rows)
    if array is None or array.dtype.kind != "f":
        return rows
    listed = array.astype(object)
    listed[np.isnan(array)] = None
    return listed


def _told(value: Any, field: str) -> str:
    """Facts or keys as a header or a field of a form holds them: JSON in ASCII."""
    return json_body(value, field).content.decode()


def _file_of(rows: Any, keys: Any) -> Body | None:
    """Rows or inputs that are sent as one file; None where JSON is to carry them."""
    try:
        if (table := table_of(rows)) is not None:
            from bento_selfheal.wire import arrow  # which loads pyarrow

            return Body(arrow.dump(_with_keys(table, keys)), ARROW)
        array = array_of(rows)
    except ValueError as error:
        raise InvalidInput(("rows",), str(error), "type") from error
    if array is not None and array.dtype.kind in "fiu":
        return Body(npy.dump(array), NPY)
    if isinstance(rows, str):
        return Body(_text(rows), TEXT)
    return Body(_png(rows, ("rows",)), PNG) if is_image(rows) else None


def _text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        said = f"character {error.start} is {text[error.start]!r}, half of one, which no text has"
        raise InvalidInput(("rows",), said, "type") from error


def _with_keys(table: Any, keys: Any) -> Any:
    """A table with its keys as a column; they are read as JSON would carry them."""
    if keys is None:
        return table
    texts = [text_of_key(key) for key in json.loads(_told(keys, "keys"))]
    if len(texts) != len(table):
        raise InvalidInput(
            ("keys",), f"{len(texts)} keys for {len(table)} rows: give one each", "keys"
        )
    for i, key in enumerate(texts):
        if not isinstance(key, str):
            raise InvalidInput(("keys", i), f"a text or an integer is needed, got {key!r}", "key")
    return table.append_column(KEYS_HEADER, [texts])


def json_body(value: Any, field: str = "") -> Body:
    """JSON of values as NumPy, torch and pandas have them too.

    Args:
        value: The values.
        field: What they are the value of, for errors; the whole body by default.

    Raises:
        InvalidInput: JSON cannot carry one of them.
    """
    start = (field,) if field else ()
    try:
        # The standard library writes NaN, so that the service can name the place of the bad value.
        return Body(json.dumps(value, default=_plain).encode(), JSON)
    except RecursionError as error:
        raise InvalidInput(
            start or ("body",), "it is nested too deeply for JSON", "type"
        ) from error
    except (ValueError, TypeError) as error:
        place, said = _own_part(value), f"JSON cannot carry it: {error}"
        said = "it is a part of itself, which JSON cannot carry" if place else said
        raise InvalidInput((*start, *place) or ("body",), said, "type") from error


def _own_part(value: Any) -> tuple[str | int, ...]:
    """Where a list or a dict is a part of itself; empty where none is."""
    waiting: list[tuple[tuple[str | int, ...], Any, frozenset[int]]] = [((), value, frozenset())]
    while waiting:
        place, one, around = waiting.pop()
        if id(one) in around:
            return place
        around |= {id(one)}
        parts = one.items() if isinstance(one, Mapping) else enumerate(one)
        waiting += [
            ((*place, name), part, around)
            for name, part in parts
            if isinstance(part, Mapping | list | tuple)
        ]
    return ()


def _plain(value: Any) -> Any:
    """A value that JSON does not know, as one that it does."""
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else math.nan
    if isinstance(value, np.datetime64 | np.timedelta64):
        return value.astype(f"{value.dtype.kind}8[us]").tolist()  # of nanoseconds it is a number
    if isinstance(value, np.generic):
        return value.tolist()
    if is_missing(value):
        return None
    if isinstance(value, date):  # also with a time
        return value.isoformat()
    try:
        if (array := array_of(value)) is not None:
            return (array.astype("M8[us]") if array.dtype.kind == "M" else array).tolist()
        if (column := column_of(value)) is not None:
            return column.to_pylist()
    except ValueError as error:
        raise InvalidInput(("body",), str(error), "type") from error
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidInput(("body",), f"JSON cannot carry {value!r:.200}", "type")


def _png(image: Any, place: tuple[str | int, ...]) -> bytes:
    """The file of an image of Pillow. Of what a camera noted, its orientation alone goes along, by
    which the service turns it.

    Raises:
        InvalidInput: It has no pixels, or they cannot be read from its file.
    """
    if not image.width or not image.height:
        said = f"an image of {image.width} x {image.height} pixels cannot be sent"
        raise InvalidInput(place, said, "value")
    try:
        return _written(image)
    except (OSError, ValueError) as error:  # of a file that is damaged, or closed already
        raise InvalidInput(place, f"the image cannot be sent: {error}", "value") from error


def _written(image: Any) -> bytes:
    from PIL.Image import Exif

    own = image if image.mode in PNG_MODES else image.convert("RGB")
    exif, out = Exif(), io.BytesIO()
    with suppress(Exception):  # Pillow's parser raises many kinds on damaged tags
        if turn := image.getexif().get(ORIENTATION):
            exif[ORIENTATION] = turn
    own.save(out, "PNG", exif=exif)
    return out.getvalue()


def _parts(files: Sequence[bytes], beside: Mapping[str, Any]) -> Body:
    """A multipart body with a part for each file, and fields for what is beside them."""
    parts = [("files", (f"{i}.png", file, PNG)) for i, file in enumerate(files)]
    data = {name: _told(value, name) for name, value in beside.items() if value is not None}
    request = httpx.Request("POST", "http://localhost", files=parts, data=data)
    return Body(request.read(), request.headers["Content-Type"])
