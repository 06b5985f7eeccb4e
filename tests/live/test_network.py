"""Networks of users on real servers: images and texts in, heals out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, wait_for
from live import environment, example
from networks import CLASSES, HERE, packaged_stripes, packaged_texts, png, striped, texts
from sqlalchemy import create_engine, text

from bento_selfheal.client import Client
from bento_selfheal.config.settings import Settings
from bento_selfheal.packaging.package import Package
from bento_selfheal.reports.inputs_export import export_inputs
from bento_selfheal.simulation.server import ServedService


def served(home: Path, package: Package, folder: Path, **settings: Any) -> ServedService:
    return ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT,
        env=environment(package, folder, workers=1, **settings) | {"PYTHONPATH": HERE},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network")


@pytest.fixture(scope="module")
def stripes(home: Path) -> Package:
    return packaged_stripes()


@pytest.fixture(scope="module")
def server(home: Path, stripes: Package, folder: Path) -> Iterator[ServedService]:
    with served(home, stripes, folder) as server:
        yield server


def asked(server: ServedService, body: bytes, kind: str, **headers: str) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.url}/predict", content=body, headers={"content-type": kind, **headers}
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_an_image_by_every_way(server: ServedService) -> None:
    """A body, a part of a multipart body and base64 in JSON: one and the same answer."""
    [image], [label] = striped(1, seed=7)
    file = png(image)
    alone = asked(server, file, "image/png")
    assert alone["decisions"] == [label]
    parts = httpx.post(f"{server.url}/predict", files=[("image", ("a.png", file, "image/png"))])
    in_json = httpx.post(
        f"{server.url}/predict",
        json={"rows": [base64.b64encode(file).decode()], "facts": [{"country": "DE"}]},
    )
    for answer in (parts, in_json):
        assert answer.json()["probabilities"] == alone["probabilities"]
    for kind in ("JPEG", "WEBP"):
        assert asked(server, png(image, kind), f"image/{kind.lower()}")["decisions"][0] in CLASSES


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"no image", {"content-type": "image/png"}, "a PNG, JPEG or WebP image is needed"),
        (png(striped(1)[0][0])[:200], {"content-type": "image/png"}, "cannot be decoded"),
        (b"%PDF", {"content-type": "application/pdf"}, "is not taken here; send"),
        (b"--x", {"content-type": "multipart/form-data"}, "no multipart body"),
        (png(striped(1)[0][0]), {"content-type": "image/png", "selfheal-facts": '{"land": "DE"}'},
         "unknown fact"),
        (png(striped(1)[0][0]), {"content-type": "image/png", "selfheal-facts": "[" * 5000},
         "JSON is needed"),
        (json.dumps({"rows": [7]}).encode(), {"content-type": "application/json"},
         "an image is needed, got int"),
    ],
)  # fmt: skip
def test_what_is_no_image(
    server: ServedService, body: bytes, headers: dict[str, str], said: str
) -> None:
    """A 400 that says what is needed."""
    answer = httpx.post(f"{server.url}/predict", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert said in answer.text


def test_one_bad_image_among_good_ones(server: ServedService) -> None:
    """It is named; the others' requests are answered."""
    images, _ = striped(2)
    files = [base64.b64encode(png(image)).decode() for image in images]
    answer = httpx.post(f"{server.url}/predict", json={"rows": [files[0], "////", files[1]]})
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"] == ["rows", 1]


def test_healed(server: ServedService, folder: Path) -> None:
    """Inverted images are learned from late labels; the log holds hidden vectors, not pixels."""
    seeds = count(1000)

    def send() -> float:
        images, labels = striped(100, seed=next(seeds), inverted=True)
        files = [base64.b64encode(png(image)).decode() for image in images]
        said = httpx.post(f"{server.url}/predict", json={"rows": files}, timeout=30).json()
        items = [
            {"prediction_id": i, "label": str(y)}
            for i, y in zip(said["prediction_ids"], labels, strict=True)
        ]
        kept = httpx.post(f"{server.url}/feedback", json={"items": items}, timeout=30).json()
        assert kept["accepted"] == 100
        return float(np.mean(np.asarray(said["decisions"]) == labels))

    first = send()
    wait_for(lambda: send() > max(0.9, first + 0.1), "inverted images healed", seconds=90)
    status = httpx.get(f"{server.url}/status").json()
    assert status["serving"]["version"] > 1
    with create_engine(f"sqlite:///{folder / 'state' / 'selfheal.db'}").connect() as store:
        query = "select sum(length(features)), sum(rows) from predictions"
        size, rows = store.execute(text(query)).one()
        assert store.execute(text("select count(*) from inputs")).scalar() == 0
    assert size / rows <= 2 * 32 + 100


def test_an_image_with_its_label(server: ServedService) -> None:
    """Who keeps no ids sends the image again, beside its label."""
    [image], [label] = striped(1, seed=11)
    item = {"features": base64.b64encode(png(image)).decode(), "label": str(label)}
    answer = httpx.post(f"{server.url}/feedback", json={"items": [item]})
    assert answer.json()["accepted"] == 1
    wrong = httpx.post(f"{server.url}/feedback", json={"items": [{**item, "features": "x"}]})
    assert wrong.status_code == 400
    assert wrong.json()["detail"][0]["loc"][-3:] == ["items", 0, "features"]


def test_texts(home: Path, tmp_path: Path) -> None:
    """Texts as they are, in JSON and as a body."""
    said, labels = texts(40, seed=3)
    with served(home, packaged_texts(), tmp_path) as server:
        answer = asked(server, json.dumps({"rows": said}).encode(), "application/json")
        assert np.mean(np.asarray(answer["decisions"]) == labels) > 0.9
        alone = asked(server, said[0].encode(), "text/plain")
        assert alone["probabilities"] == pytest.approx(answer["probabilities"][:1], abs=1e-3)
        wrong = httpx.post(f"{server.url}/predict", json={"rows": [said[0], 5]})
        assert wrong.status_code == 400
        assert "a text is needed, got int" in wrong.text


def test_images_of_pillow_by_the_client(server: ServedService) -> None:
    """One is sent as a file and several as parts; the answers are those of files."""
    images, _ = striped(3, seed=17)
    with Client(server.url) as client:
        said = client.predict(images)
        alone = client.predict(images[0])
    asked_one = asked(server, png(images[0]), "image/png")
    assert alone.probabilities == asked_one["probabilities"]
    assert len(said.probabilities) == 3


def test_inputs_are_kept_by_setting(home: Path, stripes: Package, tmp_path: Path) -> None:
    """With `log_inputs` every image is in the store byte for byte, however it was sent, and
    `export-inputs` writes those with a label; what is refused leaves nothing behind."""
    images, labels = striped(4, seed=21)
    files = [png(images[0]), png(images[1], "JPEG"), png(images[2], "WEBP"), png(images[3])]
    with served(home, stripes, tmp_path, log_inputs=1) as server:
        alone = asked(server, files[0], "image/png", **{"selfheal-facts": '{"country": "FR"}'})
        told = [base64.b64encode(file).decode() for file in files[1:]]
        refused = httpx.post(f"{server.url}/predict", json={"rows": [told[0], "////"]})
        assert refused.status_code == 400
        rest = asked(server, json.dumps({"rows": told}).encode(), "application/json")
        ids = [*alone["prediction_ids"], *rest["prediction_ids"]]
        items = [
            {"prediction_id": i, "label": str(y)} for i, y in zip(ids[:3], labels[:3], strict=True)
        ]
        kept = httpx.post(f"{server.url}/feedback", json={"items": items}).json()
        assert (kept["accepted"], kept["unmatched"]) == (3, 0)
    settings = Settings(model=stripes.tag, state_dir=tmp_path / "state")
    done = export_inputs(settings, tmp_path / "export")
    rows = pq.read_table(done.table).to_pylist()
    assert [(tmp_path / "export" / row["file_name"]).read_bytes() for row in rows] == files[:3]
    assert [Path(row["file_name"]).suffix for row in rows] == [".png", ".jpg", ".webp"]
    assert [row["label"] for row in rows] == labels[:3].tolist()
    assert [row["prediction_id"] for row in rows] == ids[:3]
    assert [row["country"] for row in rows] == ["FR", None, None]
    with create_engine(f"sqlite:///{tmp_path / 'state' / 'selfheal.db'}").connect() as store:
        assert store.execute(text("select count(*) from inputs")).scalar() == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "images"])
def test_the_example_heals(tmp_path: Path, name: str) -> None:
    """Words that the network has never seen, and inverted images, are learned from late labels."""
    before, changed, healed = example(name, tmp_path)
    assert changed < before - 0.2
    assert healed > changed + 0.2
