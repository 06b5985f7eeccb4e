"""BentoML's own ways to the service: its client, `bentoml.depends`, `bentoml.monitor`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest
from conftest import BRISK, ROOT, wait_for

from bento_selfheal.client.client import Client
from bento_selfheal.packaging.model_store import delete_model, home_store, new_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.wire.messages import FeedbackItem

pytestmark = pytest.mark.slow

LARGER_APP = ROOT / "examples" / "larger_app"


def rows(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return article_rows(n, 1.0, np.random.default_rng(seed)).rows


# -- bentoml.SyncHTTPClient -----------------------------------------------------------------------


def test_bentomls_own_clients(serve: Callable[..., ServedService]) -> None:
    """`bentoml.SyncHTTPClient` finds both endpoints, predicts, gives feedback, and tells what is
    wrong with a row."""
    with serve(workers=1) as server, bentoml.SyncHTTPClient(server.url) as client:
        answer = client.predict(rows=rows(3).tolist())
        assert len(answer["prediction_ids"]) == len(answer["probabilities"]) == 3
        items = [{"prediction_id": i, "label": 1} for i in answer["prediction_ids"]]
        assert client.feedback(items=items)["accepted"] == 3
        assert client.feedback(items=items)["already_known"] == 3
        with pytest.raises(bentoml.exceptions.BentoMLException, match=r"rows\.0.*2 values") as bad:
            client.predict(rows=[[1.0, 2.0]])
        assert bad.value.error_code == 400
    client._temp_dir.cleanup()  # which it leaves to the garbage collector, with a warning


# -- bentoml.depends ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The example's application, served."""
    folder = tmp_path_factory.mktemp("larger-app")
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(folder / "state"),
           "SELFHEAL_WORKERS": "1", **BRISK}  # fmt: skip
    with (
        ServedService(
            "service:Payments", home=home, log=folder / "server.log", cwd=LARGER_APP, env=env
        ) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def asked(app: httpx.Client, path: str, **body: Any) -> Any:
    response = app.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_larger_app_predicts_and_gives_feedback(app: httpx.Client, package: Package) -> None:
    """An application that depends on the service decides as the model does, and its labels are
    counted once and joined by the runner that was started with it."""
    table = rows(20)
    decisions = asked(app, "/decide", payments=table.tolist())
    assert [d["block"] for d in decisions] == (package.baseline(table) >= 0.5).tolist()
    references, fraud = [d["reference"] for d in decisions], [True, False] * 10
    assert asked(app, "/settle", references=references, fraud=fraud) == 20
    assert asked(app, "/settle", references=references, fraud=fraud) == 0

    def joined() -> bool:
        return (asked(app, "/classifier_status").get("labels") or {}).get("joined") == 20

    wait_for(joined, "labels joined by the runner behind the application", 120)


def test_a_larger_app_hears_what_is_wrong(app: httpx.Client) -> None:
    """What the service refuses comes through with the row and the reason, and the next is fine."""
    refused = app.post("/decide", json={"payments": [[1.0, 2.0]]})
    assert refused.status_code == 400
    assert "rows.0: 2 values" in refused.text
    assert len(asked(app, "/decide", payments=rows(2).tolist())) == 2


def test_a_larger_apps_bento_serves_the_model_it_was_built_with(
    home: Path, package: Package, tmp_path: Path
) -> None:
    """`bentoml build` of the application pins the classifier's model, though a newer one is
    `latest` when the bento is served."""
    project = tmp_path / "project"
    shutil.copytree(LARGER_APP, project, ignore=shutil.ignore_patterns("__pycache__"))
    name = package.tag.split(":")[0]
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "service:Payments", "--output", "tag"],
        env={**os.environ, "BENTOML_HOME": str(home), "SELFHEAL_MODEL": package.tag},
        cwd=project, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    bento = done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    newer = f"{name}:newer-than-the-app"
    old = home_store().get(package.tag)
    with new_model(newer, labels=dict(old.info.labels), metadata=dict(old.info.metadata)) as folder:
        for file in Path(old.path).iterdir():
            if file.name != "model.yaml":
                shutil.copy(file, folder / file.name)
    env = {"SELFHEAL_STATE_DIR": str(tmp_path / "state"), "SELFHEAL_WORKERS": "1",
           "SELFHEAL_MODEL": f"{name}:latest"}  # fmt: skip
    log = tmp_path / "server.log"
    try:
        with (
            ServedService(bento, home=home, log=log, cwd=tmp_path, env=env) as server,
            httpx.Client(base_url=server.url, timeout=30) as app,
        ):
            wait_for(lambda: "model" in asked(app, "/classifier_status"), "the first status")
            assert asked(app, "/classifier_status")["model"] == package.tag
    finally:
        delete_model(newer)
        bentoml.delete(bento)


# -- bentoml.monitor ------------------------------------------------------------------------------


def collected(folder: Path) -> list[dict[str, Any]]:
    """What all workers wrote, by file and in their order."""
    return [
        json.loads(line)
        for path in sorted((folder / "monitoring" / "selfheal" / "data").glob("data.*.log"))
        for line in path.read_text().splitlines()
    ]


@pytest.fixture
def monitored(home: Path, package: Package, tmp_path: Path) -> Iterator[Client]:
    """A service that collects data, in a folder of its own."""
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(tmp_path / "state"),
           "SELFHEAL_WORKERS": "1", "SELFHEAL_MONITOR": "true", "SELFHEAL_LOG_SAMPLE": "0.5",
           **BRISK}  # fmt: skip
    target = "bento_selfheal.default_service:SelfHealing"
    log = tmp_path / "server.log"
    with (
        ServedService(target, home=home, log=log, cwd=tmp_path, env=env) as server,
        Client(server.url) as client,
    ):
        yield client


def test_what_is_predicted_and_labelled_is_collected(monitored: Client, tmp_path: Path) -> None:
    """With `monitor` on, every row with its features, probability and class stands in BentoML's
    monitoring files, whether it is in the prediction log or not, and each accepted label behind
    it, once."""
    table = rows(7)
    answer = monitored.predict(table)
    items = [
        FeedbackItem(prediction_id=i, label=label)
        for i, label in zip(answer.prediction_ids, [0, 1, 0, 1, 0, 1, 0], strict=True)
    ]
    monitored.feedback(items)
    monitored.feedback(items)  # known already
    monitored.feedback([FeedbackItem(features=table[0], label=1)])
    lines = wait_for(
        lambda: len(found := collected(tmp_path)) >= 15 and found, "seven rows, eight labels"
    )
    predicted = [line for line in lines if line["prediction"] is not None]
    assert [line["prediction_id"] for line in predicted] == answer.prediction_ids
    assert [line["prediction"] for line in predicted] == answer.decisions
    assert [line["probability"] for line in predicted] == pytest.approx(answer.probabilities)
    features = [[line[name] for name in ARTICLE_FEATURES] for line in predicted]
    assert np.asarray(features, dtype=np.float32).tolist() == table.tolist()
    labels = {line["prediction_id"]: line["label"] for line in lines if line["label"] is not None}
    assert labels == {**{i.prediction_id: i.label for i in items}, None: 1}
    by_row = next(line for line in lines if line["prediction_id"] is None)
    assert [by_row[name] for name in ARTICLE_FEATURES] == pytest.approx(table[0].tolist())
    many = monitored.predict(rows(300, seed=1))
    wait_for(lambda: len(collected(tmp_path)) >= 315, "a large batch")
    assert len(collected(tmp_path)) == 315
    assert collected(tmp_path)[-1]["prediction_id"] == many.prediction_ids[-1]
    schema = (tmp_path / "monitoring" / "selfheal" / "schema").glob("schema.*.log")
    (line,) = [line for path in schema for line in path.read_text().splitlines()]
    roles = {column["name"]: column["role"] for column in json.loads(line)["columns"]}
    assert roles["V14"] == "feature"
    assert (roles["prediction"], roles["label"]) == ("prediction", "target")
    assert "duplicated" not in (tmp_path / "server.log").read_text()


def test_a_monitor_that_fails_takes_nothing_with_it(monitored: Client, tmp_path: Path) -> None:
    """Where the monitor cannot write, predictions and feedback go on, the log says so once, and
    rows are collected from the moment on that it can."""
    log, block = tmp_path / "server.log", tmp_path / "monitoring"
    block.write_text("no folder")
    ids = monitored.predict(rows(3)).prediction_ids
    wait_for(lambda: "the monitor does not accept rows" in log.read_text(), "the reason in the log")
    assert monitored.feedback([FeedbackItem(prediction_id=ids[0], label=1)]).accepted == 1
    for seed in range(20):
        monitored.predict(rows(3, seed))
    block.unlink()

    later: set[str] = set()

    def collects() -> bool:
        later.update(monitored.predict(rows(2)).prediction_ids)
        return bool(later & {line["prediction_id"] for line in collected(tmp_path)})

    wait_for(collects, "rows collected again")
    assert log.read_text().count("the monitor does not accept rows") == 1
