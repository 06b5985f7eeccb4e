"""Arrow IPC streams as request: one table, whose columns stand by name.

Nothing of a stream is unpacked before it is known how much that would be: `rows_in` reads what its
messages announce, and `table_in` what they hold. A message is metadata, a flatbuffer, and a body;
see https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc.

This module imports pyarrow, and is imported where the first stream is written or read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

MOST_UNPACKED = 100_000_000
"""Bytes that the compressed buffers of a stream may be unpacked to."""
MOST_MESSAGES = 20_000
"""Of a stream: each costs time, however little it holds."""
MOST_PIECES = 100
"""Of a column whose dictionaries cannot be put together."""
OTHERS = {
    b"ARROW1": "this is an Arrow file (Feather), not a stream: write it with pyarrow.ipc.new_stream"
    " or polars' write_ipc_stream",
    b"FEA1": "this is a Feather file of version 1, not an Arrow stream",
    b"PAR1": "this is a Parquet file, not an Arrow stream",
    b"{": "this is JSON, not an Arrow stream",
}
"""What is sent by mistake, by its first bytes."""
LENGTH, BUFFERS, COMPRESSION = 0, 2, 3
"""Fields of a record batch's metadata, by their numbers in Arrow's Message.fbs."""
HEADER, DATA = 2, 1
"""Fields of a message, and of a dictionary batch."""


def dump(table: pa.Table) -> bytes:
    """A stream of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    out: bytes = sink.getvalue().to_pybytes()
    return out


def rows_in(body: bytes) -> int:
    """How many rows a stream announces.

    Raises:
        ValueError: It is no stream, is cut short, or would be too large once it is unpacked.
    """
    rows = unpacked = 0
    try:
        for count, message in enumerate(_messages(body)):
            if count > MOST_MESSAGES:
                raise ValueError(f"more than {MOST_MESSAGES:,} messages; write larger batches")
            if message.type in ("record batch", "dictionary"):
                batch = _Batch(message)
                rows += batch.rows if message.type == "record batch" else 0
                unpacked += batch.unpacked()
            if unpacked > MOST_UNPACKED:
                raise ValueError(f"it unpacks to more than {MOST_UNPACKED / 1e6:g} MB")
    except (pa.ArrowException, OSError, struct.error, IndexError) as error:
        raise ValueError(_said(error)) from error
    return rows


def table_in(body: bytes) -> pa.Table:
    """The table of a stream that `rows_in` has read.

    Raises:
        ValueError: What it holds is damaged.
    """
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)  # places that point out of a buffer would read foreign memory
        _ = table.column_names  # which may be no text
        table = _in_one(table)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(_said(error)) from error
    if sum(_seen(chunk) for column in table.columns for chunk in column.chunks) > MOST_UNPACKED:
        raise ValueError(f"its views show more than {MOST_UNPACKED / 1e6:g} MB of text")
    return table


def _in_one(table: pa.Table) -> pa.Table:
    """A table whose columns are one piece each: whoever reads it takes time for each piece."""
    pieces = max((column.num_chunks for column in table.columns), default=0)
    try:
        return table.combine_chunks() if pieces > 1 else table
    except pa.ArrowException:  # dictionaries that fit no common one
        if pieces > MOST_PIECES:
            raise
        return table


def _seen(values: pa.Array) -> int:
    """Bytes that views show, also in a dictionary and in runs: any number of them may show the same
    bytes."""
    if pa.types.is_dictionary(values.type):
        return _seen(values.dictionary)
    if pa.types.is_run_end_encoded(values.type):
        return _seen(values.values)
    if not (pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type)):
        return 0
    views = np.frombuffer(values.buffers()[1] or b"", "<i4")[4 * values.offset :]
    return int(views[: 4 * len(values) : 4].sum(dtype=np.int64))


def _messages(body: bytes) -> Iterator[Any]:
    """The messages of a stream, with nothing behind them."""
    for start, what in OTHERS.items():
        if body.startswith(start):
            raise ValueError(what)
    source = pa.BufferReader(body)
    reader = pa.ipc.MessageReader.open_stream(source)
    found = False
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        if not found and message.type != "schema":
            raise ValueError("it does not begin with a schema")
        found = True
        yield message
    if not found:
        raise ValueError("there is nothing in it")
    if source.tell() < len(body):
        raise ValueError("something follows its end; send one stream")


class _Batch:
    """The metadata of a record batch, alone or in a dictionary, of a message that pyarrow has
    verified."""

    def __init__(self, message: Any) -> None:
        self._data, self._body = memoryview(message.metadata), memoryview(message.body)
        table = self._reference(self._field(self._reference(0), HEADER))
        if message.type == "dictionary":
            table = self._reference(self._field(table, DATA))
        self._table = table
        length = self._field(table, LENGTH)
        self.rows: int = self._read("<q", length) if length else 0
        if self.rows < 0:
            raise ValueError(f"a batch announces {self.rows} rows")

    def unpacked(self) -> int:
        """Bytes that its buffers have once they are unpacked; 0 where they are as they are."""
        buffers = self._field(self._table, BUFFERS)
        if not self._field(self._table, COMPRESSION) or not buffers:
            return 0
        at = self._reference(buffers)
        count = self._read("<I", at)
        places = np.frombuffer(self._data, "<i8", 2 * count, at + 4).reshape(-1, 2)
        sizes = [self._announced(place) for place, length in places.tolist() if length]
        return sum(sizes)

    def _announced(self, place: int) -> int:
        """The size before a compressed buffer; -1 where it is not compressed."""
        size: int = struct.unpack_from("<q", self._body, place)[0]
        if size < -1:
            raise ValueError(f"a buffer announces {size} bytes")
        return max(size, 0)

    def _field(self, table: int, number: int) -> int:
        """Where a field of a flatbuffer's table stands; 0 where it is not there."""
        offsets = table - self._read("<i", table)
        if 4 + 2 * number >= self._read("<H", offsets):
            return 0
        offset = self._read("<H", offsets + 4 + 2 * number)
        return table + offset if offset else 0

    def _reference(self, at: int) -> int:
        return at + self._read("<I", at)

    def _read(self, form: str, at: int) -> int:
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value


def _said(error: Exception) -> str:
    return f"it cannot be read: {str(error) or type(error).__name__}"
