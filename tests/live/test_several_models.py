"""One service with several models, some of which cannot serve."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import BRISK, ROOT, wait_for
from typer.testing import CliRunner
from worlds import package_article

import bento_selfheal.cli.main  # noqa: F401 - adds the commands
from bento_selfheal.cli.app import app
from bento_selfheal.client.client import Client as OurClient
from bento_selfheal.deployment.locations import sqlite_url
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import model_folder
from bento_selfheal.packaging.opening import WEIGHTS
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.store import SqlStore

OPERATE = "operate-operate-operate"
PREDICT = "predict-predict-predict"


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    """Two models of one package in stores of their own, and three that cannot serve."""
    folder = tmp_path_factory.mktemp("several")
    damage_package("torn")
    make_newer_store(folder / "state" / "ahead")
    env = {
        "SELFHEAL_MODELS": "fraud,churn,absent,torn,ahead",
        "SELFHEAL_FRAUD__MODEL": package.tag,
        "SELFHEAL_CHURN__MODEL": package.tag,
        "SELFHEAL_CHURN__MODE": "observe",
        "SELFHEAL_AHEAD__MODEL": package.tag,
        "SELFHEAL_STATE_DIR": str(folder / "state"),
        "SELFHEAL_WORKERS": "1",
        "SELFHEAL_PREDICT_TOKENS": f"shop={PREDICT},desk={OPERATE}",
        "SELFHEAL_FEEDBACK_TOKENS": f"desk={OPERATE}",
        "SELFHEAL_OPERATE_TOKENS": f"desk={OPERATE}",
        **BRISK,
    }
    with ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
    ) as server:
        yield server


def damage_package(name: str) -> None:
    """A package of this name with a bit of its weights flipped."""
    table = article_rows(500, 0.0, np.random.default_rng(5))
    packaged = package_model(name, table.rows, table.labels, features=ARTICLE_FEATURES, seed=5)
    weights = model_folder(packaged.tag) / WEIGHTS
    torn = bytearray(weights.read_bytes())
    torn[-1] ^= 1
    weights.chmod(0o600)
    weights.write_bytes(torn)


def make_newer_store(folder: Path) -> None:
    """A store as a later release leaves it."""
    folder.mkdir(parents=True)
    store = SqlStore(sqlite_url(folder / "selfheal.db"))
    store.create()
    store.close()
    with closing(sqlite3.connect(folder / "selfheal.db")) as file, file:
        file.execute("update alembic_version set version_num = '9999'")


@pytest.fixture
def client(server: ServedService) -> Iterator[httpx.Client]:
    """A client with the operators' token."""
    headers = {"Authorization": f"Bearer {OPERATE}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def predicted(server: ServedService, model: str, count: int = 5) -> dict[str, Any]:
    """An answer of one model, by our own client."""
    with OurClient(f"{server.url}/{model}", token=PREDICT) as client:
        found = client.predict(article_rows(count, 1.0, np.random.default_rng(3)).rows)
    return {"ids": list(found.prediction_ids), "version": found.model_version}


def test_each_model_has_its_own_log(server: ServedService, client: httpx.Client) -> None:
    """Rows and labels of one model are counted for it, and a label of another's id is unknown."""
    ids = predicted(server, "fraud")["ids"]
    items = [{"prediction_id": one, "label": 1} for one in ids]
    before = client.get("/churn/status").json()["predicted_rows"]
    assert client.post("/fraud/feedback", json={"items": items}).json()["accepted"] == len(ids)
    strange = client.post("/churn/feedback", json={"items": items}).json()
    assert (strange["accepted"], strange["unknown"]) == (0, len(ids))
    wait_for(
        lambda: client.get("/fraud/status").json()["predicted_rows"] >= len(ids),
        "the rows of fraud are read",
    )
    assert client.get("/churn/status").json()["predicted_rows"] == before


def test_a_candidate_is_one_of_its_model(server: ServedService, home: Path) -> None:
    """It is compared with the model whose path began it, from the log of that model."""
    other = package_article(11).tag
    with (
        OurClient(f"{server.url}/fraud", token=OPERATE) as fraud,
        OurClient(f"{server.url}/churn", token=OPERATE) as churn,
    ):
        fraud.begin_candidate(other, ramp=[0, 100])
        predicted(server, "fraud")

        def answers() -> bool:
            predicted(server, "fraud", 40)  # of both classes, however often it takes
            [one] = fraud.candidates()
            return bool(one["counts"].get("answered"))

        wait_for(answers, "its process answers copies")
        assert churn.candidates() == []
        fraud.end_candidate(other)


def test_the_list_of_models(server: ServedService, client: httpx.Client) -> None:
    """`/status` says of each model where it stands, and loudly which one does not serve."""
    models = client.get("/status").json()["models"]
    assert [name for name, one in models.items() if one["serves"]] == ["fraud", "churn"]
    assert models["fraud"]["attention"] == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent", "no Models with name 'absent' exist"),
        ("torn", "weights.safetensors does not have the hash noted in package.json"),
        ("ahead", "has schema 9999, but this release knows no schema after"),
    ],
    ids=["absent", "torn", "ahead"],
)
def test_a_broken_model_says_why(
    server: ServedService, client: httpx.Client, name: str, why: str
) -> None:
    """The list, the log and the answers name the model and what is wrong with it, not what follows
    from that; the others serve."""
    assert why in client.get("/status").json()["models"][name]["attention"][0]
    [line] = [
        line
        for line in server.log.read_text().splitlines()
        if f"THE MODEL {name} DOES NOT SERVE" in line and "entry_service" in line
    ]
    assert why in line
    answers = [
        client.post(f"/{name}/predict", json={"rows": [[0.0] * 10]}), client.get(f"/{name}/status")
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"].startswith(f"the model {name} does not serve")
        assert why in answer.json()["error"]
    assert predicted(server, "fraud")["ids"]


def test_pages_need_no_token_and_figures_do(server: ServedService) -> None:
    """Whoever has no token sees empty pages only, and not even the names of models."""
    with httpx.Client(base_url=server.url, timeout=30) as anybody:
        assert "several.js" in anybody.get("/").text
        moved = anybody.get("/fraud/")
        assert moved.status_code == 307
        assert moved.headers["location"] == "selfheal/"
        assert anybody.get("/fraud/selfheal/").status_code == 200
        for path in ("/status", "/fraud/status", "/fraud/predict", "/nobody/predict", "/docs"):
            assert anybody.get(path).status_code == 401, path
        wrong = {"Authorization": f"Bearer {PREDICT}"}
        assert anybody.get("/fraud/status", headers=wrong).status_code == 403
        assert anybody.post("/fraud/rollback", headers=wrong).status_code == 403


def test_a_model_that_is_not_there(client: httpx.Client) -> None:
    """A 404 names the models, also where the path is that of a service with one model."""
    for path in ("/nobody/predict", "/predict"):
        answer = client.post(path, json={})
        assert answer.status_code == 404
        said = "fraud, churn, absent, torn, ahead; a path begins with one of them"
        assert said in answer.json()["error"]


def test_bad_rows_of_one_model(server: ServedService) -> None:
    """BentoML's own way answers below a model's path as well."""
    with OurClient(f"{server.url}/fraud", token=PREDICT):
        answer = httpx.post(
            f"{server.url}/fraud/predict", json={"rows": "no"}, timeout=30,
            headers={"Authorization": f"Bearer {PREDICT}"},
        )  # fmt: skip
    assert answer.status_code == 400


def test_metrics_name_the_model(server: ServedService, client: httpx.Client) -> None:
    """Every figure of a model carries its name, and none stands there twice."""
    predicted(server, "fraud")

    def page() -> str:
        return client.get("/metrics").text

    wait_for(lambda: 'selfheal_serves{model="fraud"} 1.0' in page(), "fraud serves")
    text = wait_for(lambda: 'endpoint="/fraud/predict"' in page() and page(), "requests by model")
    assert 'selfheal_serves{model="absent"} 0.0' in text
    assert 'selfheal_state{model="churn",state="HEALTHY"} 1.0' in text
    assert 'selfheal_runner_alive{model="fraud"} 1.0' in text
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if line[:1] not in ("#", "")]
    ours = [sample for sample in samples if sample.startswith("selfheal_thread_alive")]
    assert len(ours) == len(set(ours))


def test_the_api_page(client: httpx.Client) -> None:
    """One document has the paths of all models that serve; each model has its own too."""
    whole, own = client.get("/docs.json").json(), client.get("/fraud/docs.json").json()
    assert {"/fraud/predict", "/churn/feedback"} <= whole["paths"].keys()
    assert "fraud.predict__Input" in whole["components"]["schemas"]
    assert own["servers"] == [{"url": "/fraud"}]
    assert "/predict" in own["paths"]


def test_the_status_command_lists_the_models(
    server: ServedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the service's address it names the models and how to see one; `--check` fails while one
    does not serve."""
    monkeypatch.setenv("BENTO_SELFHEAL_TOKEN", OPERATE)
    monkeypatch.setenv("COLUMNS", "200")
    asked = CliRunner().invoke(app, ["status", "--url", server.url])
    assert asked.exit_code == 0, asked.output
    assert "does not serve" in asked.output
    assert f"bento-selfheal status --url {server.url}/fraud" in asked.output
    checked = ["status", "--check", "--url"]
    assert CliRunner().invoke(app, [*checked, server.url]).exit_code == 1
    assert CliRunner().invoke(app, [*checked, f"{server.url}/fraud"]).exit_code == 0
