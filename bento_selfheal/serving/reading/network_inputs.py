"""Requests for a network: one input or more, as bodies, parts or JSON, with named facts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bento_selfheal.core.text import shown
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.errors import InvalidInput
from bento_selfheal.estimators.packaged import Estimated
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.serving.reading.arrow_rows import read_arrow
from bento_selfheal.serving.reading.keys import keys_in, keys_of
from bento_selfheal.serving.reading.rows import RowReader, check_count, read_array
from bento_selfheal.serving.reading.typed_rows import TypedRowReader, read_codes
from bento_selfheal.wire.messages import ARROW, FACTS_HEADER, NPY

MULTIPART, JSON = "multipart/form-data", ("", "application/json")
FIELDS = {"rows", "facts", "keys"}


@dataclass(frozen=True)
class Asked:
    """The inputs of one request, as they came, and their facts."""

    inputs: Sequence[Any]
    facts: NDArray[np.float32]
    """Codes, ``(n, facts)``"""
    keys: Any = None
    """The inputs' own keys, as they came."""

    def __len__(self) -> int:
        return len(self.inputs)


class NetworkInputs:
    """Takes requests for a network apart; what takes time, such as decoding, is left for later.

    Args:
        embedding: What the inputs are.
        facts: Types of the facts; the columns, where the inputs are rows of a table.
        max_rows: Most inputs that one request may carry.
    """

    def __init__(
        self, embedding: Embedding | Estimated, facts: Sequence[Column], max_rows: int
    ) -> None:
        self.source = embedding.source
        self._schema = Schema(facts)
        self._names = [column.name for column in facts]
        self.max_rows = max_rows
        self._rows: RowReader | None = None
        if isinstance(self.source, TableRows):
            typed = any(column != Column(name=column.name) for column in facts)
            self._rows = (
                TypedRowReader(facts, max_rows) if typed else RowReader(self._names, max_rows)
            )

    async def read_body(self, headers: Mapping[str, str], body: bytes) -> Asked | None:
        """The inputs of a request; None for a body that BentoML should read.

        Raises:
            InvalidInput: It holds no inputs; the message names the field.
        """
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in JSON:
            return self.read_json(body)
        if self._rows is not None:
            if kind == ARROW:
                return self._of_table(*await read_arrow(self._rows, body))
            if kind != NPY:
                return None
            return self._of_table(self._rows.read_npy(body), keys_in(headers))
        if kind == MULTIPART and self.source.takes_parts:
            return await self._read_parts(headers, body)
        if kind == NPY and NPY in self.source.media_types:
            return self.read(read_array(body), self._told_in(headers), keys_in(headers))
        if kind in self.source.media_types:
            return self.read([body], self._told_in(headers), keys_in(headers))
        parts = [MULTIPART] if self.source.takes_parts else []
        taken = ", ".join(["application/json", *parts, *self.source.media_types])
        raise InvalidInput(("body",), f"{kind!r} is not taken here; send {taken}", "media_type")

    def read_json(self, body: bytes) -> Asked | None:
        """``{"rows": …, "facts": …, "keys": …}``; None for a body that is not of that shape."""
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(given, dict) or "rows" not in given or given.keys() - FIELDS:
            return None
        return self.read(given["rows"], given.get("facts"), given.get("keys"))

    def read(self, rows: Any, facts: Any = None, keys: Any = None) -> Asked:
        """Inputs as JSON or a dependent service gives them.

        Args:
            rows: A list with one value for each input, or an array ``(n, …)``.
            facts: A list with an object for each input, or one object for all.
            keys: The inputs' own keys; they are checked later.

        Raises:
            InvalidInput: Names the input, the fact and the value.
        """
        if self._rows is not None:
            if facts is not None:
                raise InvalidInput(("facts",), "rows of a table hold their facts", "facts")
            return self._of_table(self._rows.read(rows), keys)
        if not isinstance(rows, list | np.ndarray):
            raise InvalidInput(("rows",), f"a list of inputs is needed, got {shown(rows)}", "type")
        if isinstance(rows, np.ndarray) and not rows.ndim:
            raise InvalidInput(("rows",), "an array (n, …) is needed, got a single number", "type")
        check_count(len(rows), self.max_rows, "rows")
        return Asked(list(rows), self._codes(facts, len(rows)), keys)

    def read_one(self, value: Any, loc: tuple[str | int, ...]) -> Asked:
        """One input that comes with its label."""
        if self._rows is not None:
            return self._of_table(self._rows.read_one(value, loc)[None])
        return Asked([value], self._codes(None, 1))

    def _of_table(self, codes: NDArray[np.float32], keys: Any = None) -> Asked:
        return Asked(list(codes), codes, keys)

    def _codes(self, facts: Any, rows: int) -> NDArray[np.float32]:
        """Codes of facts ``(n, facts)``; what is not told is missing."""
        if facts is None or isinstance(facts, dict):
            facts = [facts or {}] * rows
        if not isinstance(facts, list) or len(facts) != rows:
            raise InvalidInput(
                ("facts",), f"one object for each of {rows} inputs is needed", "facts"
            )
        rows_of_facts = [self._in_order(told, ("facts", i)) for i, told in enumerate(facts)]
        return read_codes(self._schema, rows_of_facts, lambda row: ("facts", row))

    def _in_order(self, told: Any, loc: tuple[str | int, ...]) -> list[Any]:
        if not isinstance(told, dict):
            raise InvalidInput(loc, f"an object is needed, got {shown(told)}", "type")
        if strange := next((name for name in told if name not in self._names), None):
            raise InvalidInput((*loc, strange), f"unknown fact; known: {self._names}", "unknown")
        return [told.get(name) for name in self._names]

    def _told_in(self, headers: Mapping[str, str]) -> Any:
        """Facts in a header, in UTF-8, which HTTP hands on as Latin-1."""
        text = headers.get(FACTS_HEADER)
        return None if text is None else self._facts_of(text.encode("latin-1", errors="replace"))

    def _facts_of(self, text: bytes) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(("facts",), f"JSON is needed: {error}", "json") from error

    async def _read_parts(self, headers: Mapping[str, str], body: bytes) -> Asked:
        """Files of a multipart body, in their order, each one an input; and a field `facts`."""

        async def once() -> AsyncGenerator[bytes, None]:
            yield body

        try:
            form = await MultiPartParser(Headers(headers), once(), max_files=self.max_rows).parse()
        except (MultiPartException, KeyError) as error:
            raise InvalidInput(("body",), f"no multipart body: {error!r}", "multipart") from error
        parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        files, facts, keys = [await p.read() for p in parts], form.get("facts"), form.get("keys")
        await form.close()
        own = keys_of(keys.encode()) if isinstance(keys, str) else keys_in(headers)
        if isinstance(facts, str):
            return self.read(files, self._facts_of(facts.encode()), own)
        return self.read(files, self._told_in(headers), own)
