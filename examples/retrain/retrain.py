"""Retrains a model from what `RETRAIN_NEEDED` hands over, and packages it under the same name.

    python retrain.py EVENT.json             the body of a webhook, or - for standard input
    python retrain.py --url URL              the newest event of a running service
    python retrain.py EVENT.json --url URL   the new model becomes a candidate of the service there

The event says where the labelled rows lie, what their columns are, and why a retrain is due. Run it
on the host that the event names, or where its state folder is mounted, with the BENTOML_HOME of the
service. The tag of the new package is the last line of the output.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bento_selfheal import Client, package_model
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.streams import read_table

KIND = "retrain_needed"


def main() -> None:
    """Retrain, and print the tag."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("event", nargs="?", help="file with the event, or - for standard input")
    parser.add_argument("--url", help="address of the service, which gets the new model")
    asked = parser.parse_args()
    if asked.event is None and asked.url is None:
        parser.error("give a file with the event, or --url")
    made = retrain(read_event(asked.event) if asked.event else newest_event(asked.url))
    hand_over(made.tag, asked.url)
    print(made.tag)


def read_event(file: str) -> dict[str, Any]:
    """What an event carries: of a webhook's body, or of an event as `/events` has it."""
    body = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    if body.get("type", body.get("kind")) != KIND:
        raise SettingsError(f"{file}: this is no event of the kind {KIND}")
    found: dict[str, Any] = body.get("data") or body["detail"]
    return found


def newest_event(url: str) -> dict[str, Any]:
    """The newest event of a service; the token is that of BENTO_SELFHEAL_TOKEN."""
    with Client(url) as client:
        events = [event for event in client.events(limit=10_000) if event.kind == KIND]
    if not events:
        raise SettingsError(f"{url}: no retrain is asked for yet")
    return events[-1].detail


def retrain(event: dict[str, Any]) -> Package:
    """Train a model on the exported rows, and package it."""
    if not event.get("export"):
        raise SettingsError(f"no rows were exported: {event.get('export_error')}")
    schema, before = event["schema"], open_package(event["package"])
    print(f"{event['reason']}; {event['rows']} labelled rows in {event['export']}")
    if not schema["rows_hold_inputs"]:
        raise SettingsError(
            "the rows are hidden vectors: retrain the network itself on what "
            "`bento-selfheal export-inputs` writes"
        )
    if schema["hidden_columns"]:
        raise SettingsError(
            f"the first {schema['hidden_columns']} columns are log odds of an estimator of yours: "
            "fit it anew on the columns behind them, and package it with `estimator=`"
        )
    # Here is the place for a model of your own: pass it as `model` or `estimator`.
    rows = exported_rows(event, before)
    made = package_model(
        event["package"].split(":")[0], rows.rows, rows.labels,
        features=rows.features, columns=rows.columns,
        rules=before.info.rules, sensitive=watched(before),
    )  # fmt: skip
    print(f"accuracy {made.info.accuracy:.3f} on held-out rows, {before.info.accuracy:.3f} before")
    return made


def exported_rows(event: dict[str, Any], before: Package) -> Table:
    """The labelled rows; one that stands for several of its class comes as often."""
    schema = event["schema"]
    path, types = Path(event["export"]), schema["file"] and Path(schema["file"])
    without = [schema["source"], schema["weight"]]
    table = read_table(path, schema["label"], without, types)
    weights = pq.read_table(path, columns=[schema["weight"]]).column(0).to_numpy()
    # A model of other classes cannot take the place of this one: it needs a service of its own.
    known = np.isin(table.labels, before.info.classes)
    if (new := int((~known).sum())) > 0:
        print(f"{new} rows of classes that {before.tag} does not have are left out")
    often = np.where(known, np.maximum(np.rint(weights), 1), 0).astype(int)
    return Table(
        table.features, np.repeat(table.rows, often, axis=0), np.repeat(table.labels, often),
        columns=table.columns,
    )  # fmt: skip


def watched(package: Package) -> list[str]:
    """The features that the signals watched so far."""
    named = {one.column or one.feature for one in package.info.calibration}
    return [name for name in package.info.features if name in named]


def hand_over(tag: str, url: str | None) -> None:
    """Let the new model earn its place, where an address is known: it is promoted once later labels
    prove it better than what serves."""
    if url is None:
        print(f"to let it earn its place: bento-selfheal candidate {tag}")
        return
    with Client(url) as client:
        client.begin_candidate(tag)
    print(f"it is a candidate at {url}")


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        sys.exit(f"error: {error}")
