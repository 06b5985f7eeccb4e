"""Writes inputs that were kept as they came, with their labels: files, and a table of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.records import Label, LoggedInput, PredictionRecord
from bento_selfheal.deployment.locations import open_existing
from bento_selfheal.errors import SettingsError, StoreError
from bento_selfheal.inputs.column import Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.store import SqlStore

PAGE = 1000
"""Inputs to look at in one read."""
FILES = "inputs"
"""Folder of the files."""
TABLE = "metadata.parquet"
"""The table: Hugging Face's `datasets` looks for this name, and for its column `file_name`."""
ENDINGS = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "text/plain": ".txt",
    "application/x-npy": ".npy", "application/json": ".json",
}  # fmt: skip
OWN = ("file_name", "label", "prediction_id", "time", "source")
TYPES = {
    Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.int64(), Kind.BOOLEAN: pa.bool_(),
    Kind.CATEGORY: pa.string(), Kind.DATETIME: pa.timestamp("us", "UTC"),
}  # fmt: skip


@dataclass(frozen=True)
class InputsExport:
    """What was written.

    Attributes:
        table: The file of the table.
        inputs: How many inputs it has, each with a file.
        quarantined: How many more were left out, whose label is of a quarantined source.
    """

    table: Path
    inputs: int
    quarantined: int


def export_inputs(
    settings: Settings, folder: Path, since: float = 0.0, until: float = 0.0
) -> InputsExport:
    """Write each labelled input to a file, and a table with its label, facts and prediction id.

    The newest label of an input counts, and none of a source that is quarantined. The table
    appears at the end: without it, a folder is not complete.

    Args:
        settings: Which store.
        folder: Where everything goes; it must be empty, or missing.
        since: Only inputs that came at this time or later, in seconds since the epoch.
        until: Only inputs that came before this time; 0 for now.

    Raises:
        SettingsError: The folder is not empty.
        StoreError: There is no such store, or it has no package.
    """
    store = open_existing(settings)
    try:
        store.check()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty; name a new folder, so that no rows mix")
        return _Writer(store, folder).write(since, until or time.time())
    finally:
        store.close()


class _Writer:
    def __init__(self, store: SqlStore, folder: Path) -> None:
        tag, secret = store.meta("package"), store.meta("secret")
        if tag is None or secret is None:
            raise StoreError("the store has no package yet; deploy one first")
        info = open_package(tag).info
        self._store, self._folder, self._signer = store, folder, IdSigner(secret)
        self._classes, self._hidden = info.classes, info.hidden_columns
        self._facts = Schema(info.columns[info.hidden_columns :])
        self._refused = {
            name
            for name, facts in store.status().get("sources", {}).items()
            if facts.get("quarantined")
        }
        # One at a time: inputs of a request lie side by side, and a request may be large.
        self._prediction = lru_cache(1)(self._read_prediction)

    def write(self, since: float, until: float) -> InputsExport:
        (self._folder / FILES).mkdir()
        table, beside = self._folder / TABLE, self._folder / f"{TABLE}.part"
        written = refused = 0
        with pa.parquet.ParquetWriter(beside, self._columns()) as writer:
            for page in self._pages(since, until):
                taken = [one for one in page if one.source not in self._refused]
                refused += len(page) - len(taken)
                rows = [row for one in taken if (row := self._written(one)) is not None]
                writer.write_table(pa.Table.from_pylist(rows, schema=self._columns()))
                written += len(rows)
        beside.replace(table)
        return InputsExport(table, written, refused)

    def _columns(self) -> pa.Schema:
        label = pa.array(self._classes).type
        own = (pa.string(), label, pa.string(), pa.timestamp("us", "UTC"), pa.string())
        facts = [(_free(c.name), TYPES[c.kind]) for c in self._facts.columns]
        return pa.schema([*zip(OWN, own, strict=True), *facts])

    def _pages(self, since: float, until: float) -> Iterator[list[LoggedInput]]:
        place, end = 0, False
        while not end:
            page, following = self._store.labelled_inputs(place, since, until, PAGE)
            place, end = following, following == place
            yield page

    def _written(self, one: LoggedInput) -> dict[str, Any] | None:
        """Its row, once its file is written; None where retention was faster."""
        prediction, body = self._prediction(one.request), self._store.input_body(one.seq)
        if prediction is None or body is None:
            return None
        name = f"{FILES}/{one.seq:012}{ENDINGS.get(one.media_type, '.bin')}"
        with (self._folder / name).open("xb") as file:
            file.write(body)
        token = self._signer.token_of(one.request, len(prediction.probabilities))
        codes = prediction.features[one.row : one.row + 1, self._hidden :]
        facts = {_free(k): values[0] for k, values in self._facts.values(codes).items()}
        when = datetime.fromtimestamp(one.time, UTC)
        own = (name, self._class_of(one), f"{token}.{one.row}", when, one.source)
        return {**dict(zip(OWN, own, strict=True)), **facts}

    def _class_of(self, one: LoggedInput) -> Label:
        """Its label; also of a class that the packaged model does not have."""
        if one.new_class is None:
            return self._classes[one.label]
        named: Label = json.loads(one.new_class)
        return named

    def _read_prediction(self, request: bytes) -> PredictionRecord | None:
        return self._store.predictions_of({request}).get(request)


def _free(name: str) -> str:
    """The column of a fact: its name, unless the table has a column of its own of that name."""
    return name if name not in OWN else f"_{name}"
