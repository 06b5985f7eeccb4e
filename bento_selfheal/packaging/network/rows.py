"""The rows that a network leaves in the log: hidden vectors, with facts behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from torch import nn

from bento_selfheal.core.given import column_of, table_of
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.tensors import Tensors, tensors_like
from bento_selfheal.errors import PackageError, SettingsError
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.inference import infer
from bento_selfheal.inputs.table_codes import codes_of
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.network.fitting import embed_with
from bento_selfheal.packaging.network.weights import write_network
from bento_selfheal.packaging.package import ADAPTED_HEAD
from bento_selfheal.packaging.training_data import check_rows

MOST_WATCHED = 32
"""Columns of a hidden vector that signals look at by default."""


@dataclass(frozen=True)
class NetworkRows:
    """A network, and training inputs as the rows that heal."""

    network: nn.Module
    embedding: Embedding
    model: SelfHealingModel
    rows: NDArray[np.float32]
    """``(n, width + facts)``"""
    features: list[str]
    columns: list[Column]
    watched: list[str]
    """Features that signals look at by default."""
    builder = ADAPTED_HEAD

    @property
    def builder_args(self) -> Mapping[str, Any]:
        """Keyword arguments of the builder."""
        return {"embedding": self.embedding.model_dump(mode="json")}

    def write(self, folder: Path) -> Mapping[str, Any]:
        """Write the network's weights; the builder's arguments with their hash."""
        noted = {"weights_sha256": write_network(self.network, folder)}
        return {"embedding": {**self.builder_args["embedding"], **noted}}


def embed_rows(
    network: nn.Module,
    head: str,
    values: ArrayLike | Sequence[Any],
    *,
    features: Sequence[str],
    columns: Sequence[Column],
    source: Source | None,
    facts: Mapping[str, Sequence[Any]] | None,
    builder: str,
    builder_args: Mapping[str, Any],
) -> NetworkRows:
    """Try a network on its training inputs, and embed them; as `package_model` takes them.

    Raises:
        PackageError: The network cannot be healed, or an input or a fact does not fit.
    """
    if not isinstance(network, nn.Module):
        raise PackageError(
            f"model: a torch network is needed, got {type(network).__name__}; load a state dict "
            "into the network that it is of"
        )
    if not head:
        raise PackageError(
            "head: name the module that gives the network's answers, as in head='fc'; its modules "
            f"end with {[name for name, _ in network.named_modules() if name][-4:]}"
        )
    facts = _by_name(facts)
    if features and (facts or source is not None):
        raise PackageError("features: rows of a table need no inputs, and their columns are facts")
    if features:
        named, behind = _of_table(values, features, columns)
        source, given = TableRows(), list(behind)
    else:
        source, given = _read_as(source, values), list(values)  # type: ignore[arg-type]
        named, behind = _of_facts(facts, len(given))
    made = embed_with(network, head, source, given, builder, builder_args)
    hidden = made.embedding.hidden_names()
    spread = made.hidden.std(axis=0)
    most = np.argsort(-spread, kind="stable")[:MOST_WATCHED]
    return NetworkRows(
        made.network, made.embedding, made.model,
        rows=np.concatenate([made.hidden, behind], axis=1),
        features=[*hidden, *(column.name for column in named)],
        columns=[*(Column(name=name) for name in hidden), *named],
        watched=[*(hidden[i] for i in np.sort(most) if spread[i] > 0), *(c.name for c in named)],
    )  # fmt: skip


def _read_as(source: Source | None, values: Any) -> Source:
    if source is not None and not isinstance(source, Tensors):
        return source
    try:
        like = tensors_like(np.asarray(values))
        if source is None:
            return like
        return source.model_copy(update={"within_one": like.within_one})
    except ValueError as error:
        raise PackageError(
            f"rows: {error}; say what else they are with inputs=Images(…), Texts(…) or Values(…)"
        ) from error


def _of_table(
    values: Any, features: Sequence[str], columns: Sequence[Column]
) -> tuple[list[Column], NDArray[np.float32]]:
    try:
        codes = check_rows(values, features, columns)
    except ValueError as error:
        raise PackageError(str(error)) from error
    return list(columns) or [Column(name=name) for name in features], codes


def _by_name(facts: Any) -> dict[str, Any]:
    """Facts as a dict of lists, arrays or columns of Arrow."""
    try:
        if (table := table_of(facts)) is not None:
            return dict(zip(table.column_names, table.columns, strict=True))
        if facts is not None and not isinstance(facts, Mapping):
            raise ValueError(f"a dict of lists by name is needed, got {facts!r:.80}")
        columns = {name: (values, column_of(values)) for name, values in (facts or {}).items()}
    except ValueError as error:
        raise PackageError(f"facts: {error}") from error
    for name, (values, column) in columns.items():
        if column is None and not isinstance(values, Sequence | np.ndarray):
            raise PackageError(f"facts: {name!r} needs a list of values, got {values!r:.80}")
    return {name: given if own is None else own for name, (given, own) in columns.items()}


def _of_facts(
    facts: Mapping[str, Sequence[Any]], rows: int
) -> tuple[list[Column], NDArray[np.float32]]:
    """The types of facts, and their codes ``(n, facts)``."""
    for name, values in facts.items():
        if len(values) != rows:
            raise PackageError(f"facts: {name!r} has {len(values)} values for {rows} inputs")
    if not facts:
        return [], np.zeros((rows, 0), dtype=np.float32)
    try:
        table = pa.table(facts)
        known = infer(table, None).columns
        return list(known), codes_of(table, known)
    except (SettingsError, pa.ArrowException, OverflowError, UnicodeError) as error:
        raise PackageError(f"facts: {error}") from error
