"""Requests that schemathesis makes from a service's API page, and how they are answered."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies

from bento_selfheal.wire import arrow, npy
from bento_selfheal.wire.messages import ARROW, CSV, NPY, PARQUET


def statuses(url: str, path: str, count: int, *, fit_keys: bool = True) -> Counter[int]:
    """How requests are answered that the page calls valid, by status.

    Args:
        url: Address of the service.
        path: Which endpoint.
        count: How many requests.
        fit_keys: Let requests have as many keys as rows, which no JSON Schema can ask for.
    """
    page = requests.get(f"{url}/docs.json", timeout=30).json()
    bodies = _label_tables(page) if path == "/feedback" else _example_bodies(page)
    for kind, body in bodies.items():
        schemathesis.openapi.media_type(kind, strategies.just(body))
    schema = schemathesis.openapi.from_url(f"{url}/docs.json")
    valid = schema[path]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    seen: Counter[int] = Counter()
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=valid)
    def ask(case: Any) -> None:
        if fit_keys:
            _fit_keys(case.body)
        seen[case.call(session=session, timeout=30).status_code] += 1

    with session:
        ask()
    return seen


def _fit_keys(body: Any) -> None:
    """As many keys as rows; none where there are fewer."""
    if isinstance(body, dict) and isinstance(body.get("keys"), list):
        keys = body["keys"][: len(body["rows"])]
        body["keys"] = keys if len(set(map(str, keys))) == len(body["rows"]) else None


def _example_bodies(page: dict[str, Any]) -> dict[str, bytes]:
    """The page's example row as the bodies that no schema of JSON describes."""
    rows = page["components"]["schemas"]["predict__Input"]["properties"]["rows"]
    if len(rows["anyOf"]) == 1:  # inputs of a network
        return {NPY: npy.dump(np.asarray(rows["example"], np.float32))}
    names = list(rows["anyOf"][1]["items"]["properties"])
    values = dict(zip(names, rows["example"][0], strict=True))
    bodies = {ARROW: arrow.dump(pa.table({name: [value] for name, value in values.items()}))}
    if all(isinstance(value, int | float) for value in values.values()):
        bodies[NPY] = npy.dump(np.asarray([list(values.values())], np.float64))
    return bodies


def _label_tables(page: dict[str, Any]) -> dict[str, bytes]:
    """The page's example label as the tables that no schema of JSON describes."""
    example = page["components"]["schemas"]["FeedbackItem"]["example"]
    table = pa.table({name: [example[name]] for name in ("key", "label")})
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    csv = f"key,label\n{example['key']},{example['label']}\n".encode()
    return {CSV: csv, PARQUET: parquet.getvalue(), ARROW: arrow.dump(table)}
