"""The API page of a running service shows what its own model takes, and what it shows is taken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import served
from mixed import NAMES, packaged
from page_requests import statuses

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES
from bento_selfheal.wire.messages import ARROW, LABEL_TABLES, NPY

MAX_ROWS = 7


@pytest.fixture(scope="module", params=["mixed", "plain"])
def package(request: pytest.FixtureRequest, package: Package) -> Package:
    """A model of a mixed table, and one of plain numbers."""
    return packaged("mixed-page") if request.param == "mixed" else package


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    folder = tmp_path_factory.mktemp("page")
    with served(home, package, folder, workers=1, max_rows=MAX_ROWS) as server:
        yield server


@pytest.fixture
def schemas(server: ServedService) -> dict[str, Any]:
    """The schemas of the page."""
    found: dict[str, Any] = httpx.get(f"{server.url}/docs.json").json()["components"]["schemas"]
    return found


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_what_the_page_allows_is_answered(server: ServedService, path: str) -> None:
    """Of requests that are made from the page, nine in ten are answered, and none fails."""
    seen = statuses(server.url, path, 60)
    assert seen[200] >= 0.9 * seen.total() > 0
    assert max(seen) < 500


def test_inputs_by_name_type_and_example(schemas: dict[str, Any], package: Package) -> None:
    """Each input is shown with its name, and what may be missing with null."""
    rows = schemas["predict__Input"]["properties"]["rows"]
    listed, named = (form["items"] for form in rows["anyOf"])
    mixed = bool(package.info.columns)
    assert list(named["properties"]) == (NAMES if mixed else ARTICLE_FEATURES)
    assert list(named["properties"].values()) == listed["prefixItems"]
    assert (rows["minItems"], rows["maxItems"]) == (1, MAX_ROWS)
    assert all(one["examples"] for one in listed["prefixItems"])
    if mixed:
        types = [{c.get("type") for c in one.get("anyOf", [one])} for one in listed["prefixItems"]]
        assert types == [
            {"number", "null"}, {"integer"}, {"boolean", "null"}, {"string", "null"},
            {"string", "null"},
        ]  # fmt: skip


def test_the_example_is_answered_and_labels_are_classes(
    server: ServedService, schemas: dict[str, Any], package: Package
) -> None:
    """The example can be pasted; labels are the model's classes."""
    example = schemas["predict__Input"]["properties"]["rows"]["example"]
    assert httpx.post(f"{server.url}/predict", json={"rows": example}).status_code == 200
    keys = schemas["predict__Input"]["properties"]["keys"]["oneOf"][0]
    assert (keys["minItems"], keys["maxItems"], keys["uniqueItems"]) == (1, MAX_ROWS, True)
    assert [way["title"] for way in schemas["FeedbackItem"]["anyOf"]] == [
        "By key",
        "By id",
        "By row",
    ]
    label = schemas["FeedbackItem"]["properties"]["label"]
    assert label["example"] == package.info.classes[-1]
    assert all(repr(name) in label["description"] for name in package.info.classes)
    ways = [way["title"] for way in schemas["FeedbackItem"]["oneOf"]]
    assert ways == ["Label", "Taken back"]


def test_bodies_of_tables(server: ServedService, package: Package) -> None:
    """Arrow streams are shown beside JSON, and NumPy files where all columns are numbers."""
    page = httpx.get(f"{server.url}/docs.json").json()
    shown = set(page["paths"]["/predict"]["post"]["requestBody"]["content"])
    assert shown == {"application/json", ARROW, *([] if package.info.columns else [NPY])}
    labels = set(page["paths"]["/feedback"]["post"]["requestBody"]["content"])
    assert labels == {"application/json", *LABEL_TABLES}


def test_gzip_on_both_endpoints(server: ServedService, schemas: dict[str, Any]) -> None:
    """What is packed is answered as what is not, on the fast path and on BentoML's."""
    rows = schemas["predict__Input"]["properties"]["rows"]["example"]
    bodies = {
        "predict": {"rows": rows},
        "feedback": {"items": [schemas["FeedbackItem"]["example"]]},
    }
    for path, body in bodies.items():
        packed = gzip.compress(json.dumps(body).encode())
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        answer = httpx.post(f"{server.url}/{path}", content=packed, headers=headers)
        assert answer.status_code == 200, answer.text


def test_unknown_fields_are_named(server: ServedService, schemas: dict[str, Any]) -> None:
    """A field that the page does not show is refused by name, beside rows and within items."""
    rows = schemas["predict__Input"]["properties"]["rows"]["example"]
    item = schemas["FeedbackItem"]["example"] | {"id": 7}
    for path, body, field in (
        ("predict", {"rows": rows, "ids": [7]}, "ids"),
        ("feedback", {"items": [item]}, "items.0.id"),
    ):
        answer = httpx.post(f"{server.url}/{path}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{field}: unknown field, got")
