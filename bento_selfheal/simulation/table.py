"""Makes packages, streams and suggestions from a table in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bento_selfheal.core.labels import index_of_new, name_of_new
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.suggest import suggest
from bento_selfheal.packaging.training_data import as_label
from bento_selfheal.rules import parse_rule
from bento_selfheal.simulation.streams import Stream


def package_table(
    name: str,
    table: Table,
    seed: int,
    sensitive: Sequence[str] | None,
    rules: Sequence[str] = (),
) -> Package:
    """Train a classifier on a user's table and package it.

    Raises:
        SettingsError: A rule is not of the form that `parse_rule` reads.
    """
    columns = table.columns or [Column(name=name) for name in table.features]
    classes = [as_label(value) for value in np.unique(table.labels)]
    return package_model(
        name,
        table.rows,
        table.labels,
        features=table.features,
        columns=table.columns,
        sensitive=sensitive,
        rules=[parse_rule(text, classes, columns) for text in rules],
        seed=seed,
    )


def table_stream(table: Table, package: Package, delay: int, limit: int = 0) -> Stream:
    """A user's table as a stream for a packaged model, which may lack some of its classes."""
    index = {label: i for i, label in enumerate(package.info.classes)}
    end = limit or len(table.labels)
    given = [as_label(value) for value in table.labels[:end]]
    new = {label: index_of_new(name_of_new(label)) for label in set(given) - index.keys()}
    labels = np.asarray([(index | new)[label] for label in given], dtype=np.int64)
    named = {i: label for label, i in new.items()}
    return Stream(table.rows[:end], labels, delay, new_classes=named)


def suggest_table(table: Table, most: int, seed: int) -> dict[str, Any]:
    """Sensitive features and candidate rules of a table, as JSON values."""
    given = [as_label(value) for value in table.labels]
    classes = sorted(set(given), key=lambda label: (isinstance(label, str), label))
    index = {label: i for i, label in enumerate(classes)}
    labels = np.asarray([index[label] for label in given], dtype=np.int64)
    found = suggest(
        table.rows, labels, table.features,
        columns=table.columns, classes=len(classes), seed=seed, most=most,
    )  # fmt: skip
    return {
        "notes": list(table.notes),
        "left_out": found.left_out,
        "sensitive": found.sensitive,
        "strength": found.strength,
        "rules": [
            {
                **asdict(r),
                "rule": r.rule.model_dump(mode="json"),
                "condition": r.rule.condition,
                "class": classes[r.rule.target],
            }
            for r in found.rules
        ],
    }
