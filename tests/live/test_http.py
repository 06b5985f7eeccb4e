"""What clients and operators send over HTTP, and what they get back."""

from __future__ import annotations

import getpass
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import wait_for
from live import WIDTH, Client, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.http.request_metrics import REPORT_SECONDS
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.wire.messages import LABEL_TABLES

MAX_ROWS = 200
NPY, JSON = "application/x-npy", "application/json"
ROW = [0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    """Two predict workers with a small limit of rows."""
    folder = tmp_path_factory.mktemp("http")
    with served(home, package, folder, workers=2, max_rows=MAX_ROWS, access_log=True) as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    """A client of the module's server."""
    with Client(server) as client:
        yield client


def rows(n: int, seed: int = 0) -> list[list[float]]:
    """Rows as a client has them."""
    made: list[list[float]] = article_rows(n, 1.0, np.random.default_rng(seed)).rows.tolist()
    return made


# -- predict --------------------------------------------------------------------------------------


def test_objects_by_feature_name_get_the_same_answers_as_lists(
    client: Client, package: Package
) -> None:
    """Lists in the order of the features and objects in any order of their keys agree."""
    lists = rows(7)
    objects = [dict(reversed(list(zip(ARTICLE_FEATURES, row, strict=True)))) for row in lists]
    answer, named = client.predict(lists), client.predict(objects)
    assert answer["probabilities"] == named["probabilities"]
    expected = package.baseline(np.asarray(lists, dtype=np.float32))
    assert answer["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert answer["decisions"] == [int(p >= 0.5) for p in answer["probabilities"]]
    assert answer["model_version"] == 1


def test_ids_are_unique_over_requests_and_workers(client: Client, server: ServedService) -> None:
    """No id comes twice, whichever worker issued it."""
    ids: list[str] = []
    for _ in range(10):
        with Client(server) as fresh:
            ids += fresh.predict(rows(20))["prediction_ids"]
    assert len(set(ids)) == len(ids) == 200


def test_a_numpy_file_gets_the_same_answers_as_json(client: Client) -> None:
    """A .npy body is answered as the JSON of its numbers is, also where it comes in pieces, and a
    bad one is refused with the place."""
    table = np.asarray(rows(9), dtype=np.float32)
    asked = client.post("/predict", content=npy(table), headers={"Content-Type": NPY})
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert answer["probabilities"] == client.predict(table.tolist())["probabilities"]
    assert client.label(answer["prediction_ids"][:1], [0])["accepted"] == 1
    body = npy(table)
    pieces = client.post(
        "/predict", content=iter([body[:100], body[100:]]), headers={"Content-Type": NPY}
    )
    assert pieces.json()["probabilities"] == answer["probabilities"]
    numbers = client.post("/predict", content=body, headers={"Content-Type": NPY, "Accept": NPY})
    assert np.load(io.BytesIO(numbers.content)).tolist() == pytest.approx(
        answer["probabilities"], abs=1e-7
    )
    said = numbers.headers
    assert (said["selfheal-model-version"], said["selfheal-verified"]) == ("1", "true")
    assert float(said["selfheal-threshold"]) == 0.5
    row = {"prediction_id": f"{said['selfheal-request']}.8", "label": 0}
    assert client.ask("/feedback", {"items": [row]})["accepted"] == 1
    table[3, 4] = np.nan
    refused = client.post("/predict", content=npy(table), headers={"Content-Type": NPY})
    assert refused.status_code == 400
    assert refused.json()["detail"][0]["loc"] == ["rows", 3, ARTICLE_FEATURES[4]]
    over = client.post(
        "/predict", content=npy(np.zeros((MAX_ROWS + 1, WIDTH))), headers={"Content-Type": NPY}
    )
    assert over.status_code == 413


def npy(table: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def test_what_the_lane_does_not_read_bentoml_answers(client: Client) -> None:
    """Broken JSON, a missing or unknown field and an unknown kind of body get BentoML's own 400."""
    extra = b'{"rows": [[1]], "unknown": 1}'
    for body in (b'{"rows": [[1,', b"{}", b"[]", b'{"rows": [[NaN]]}', extra):
        refused = client.post("/predict", content=body, headers={"Content-Type": JSON})
        assert refused.status_code == 400, refused.text
        assert refused.headers["Server"] == "BentoML Service/SelfHealing"


def test_a_body_of_another_type_is_told_what_is_taken(client: Client) -> None:
    """A refusal names every type that this endpoint takes of this model."""
    json_alone = "send application/json"
    all_of_them = f"{json_alone} or application/vnd.apache.arrow.stream or application/x-npy"
    tables = f"{json_alone} or {' or '.join(LABEL_TABLES)}"
    for path, taken in {"/predict": all_of_them, "/feedback": tables}.items():
        bad = client.post(path, content=b"1,2", headers={"Content-Type": "text/xml"})
        assert bad.status_code == 415
        assert bad.json()["error"] == f"Content-Type: 'text/xml' is not read here; {taken}"


def test_what_clients_do_wrong_is_no_error_in_the_log(
    client: Client, server: ServedService
) -> None:
    """A 4xx, whoever finds the fault, leaves neither a traceback nor a line at ERROR."""
    began = server.log.stat().st_size
    headers = {"Content-Type": JSON}
    statuses = set()
    for path in ("/predict", "/feedback", "/rollback", "/forget", "/erase"):
        for body in (b"{", b"[]", b"", b'{"a": 1}', b"\xff", b"[" * 5000):
            statuses.add(client.post(path, content=body, headers=headers).status_code)
        statuses.add(client.post(path, files={"file": b"x"}).status_code)
        statuses.add(client.post(path, json={}, headers={"Content-Encoding": "br"}).status_code)
        statuses.add(client.put(path).status_code)
    for item in ({"label": 7.5, "key": "a"}, {"key": ""}, {"label": 1, "key": "a", "x": 1}):
        statuses.add(client.post("/feedback", json={"items": [item]}).status_code)
    for path in ("/events?limit=0", "/history?since=x", "/nowhere", "/selfheal/nowhere"):
        statuses.add(client.get(path).status_code)
    csv = {"Content-Type": "text/csv"}
    statuses.add(client.post("/feedback", content=b"key,label\na,no\n", headers=csv).status_code)
    assert statuses >= {400, 404, 405, 415, 422}
    assert max(statuses) < 500
    said = server.log.read_bytes()[began:].decode(errors="replace")
    assert "Traceback" not in said
    assert "[ERROR]" not in said


# -- feedback -------------------------------------------------------------------------------------


def test_a_label_counts_once(client: Client) -> None:
    """The same label again is already known, and nothing is counted twice."""
    ids = client.predict(rows(5))["prediction_ids"]
    first, again = client.label(ids, [1] * 5), client.label(ids, [1] * 5)
    assert (first["accepted"], first["already_known"]) == (5, 0)
    assert (again["accepted"], again["already_known"]) == (0, 5)


def test_a_label_sent_twice_in_one_request_counts_once(client: Client) -> None:
    """Two equal items of one request are one label."""
    (one,) = client.predict(rows(1))["prediction_ids"]
    answer = client.label([one, one], [0, 0])
    assert (answer["accepted"], answer["already_known"]) == (1, 1)


def test_unknown_ids_are_named(client: Client) -> None:
    """Ids that nobody issued come back by name; the good items of the request are kept."""
    (issued,) = client.predict(rows(1))["prediction_ids"]
    token = issued.removesuffix(".0")
    forged = ("B" if token[0] == "A" else "A") + token[1:] + ".0"
    strange = [forged, token + ".1", "no-such-id", ""]
    answer = client.label([issued, *strange], [1] * 5)
    assert answer["accepted"] == 1
    assert answer["unknown"] == 4
    assert answer["unknown_ids"] == strange


def test_a_different_label_is_a_conflict_until_it_corrects(client: Client) -> None:
    """A second, different label is refused with the one kept; `corrects` replaces it."""
    ids = client.predict(rows(2))["prediction_ids"]
    client.label(ids, [1, 0])
    answer = client.label(ids, [1, 1])
    assert (answer["already_known"], answer["in_conflict"]) == (1, 1)
    assert answer["conflicts"] == [{"item": 1, "prediction_id": ids[1], "given": 1, "kept": 0}]
    assert client.label([ids[1]], [1], corrects=True)["accepted"] == 1
    assert client.label([ids[1]], [1])["already_known"] == 1
    assert client.label([ids[1]], [0])["conflicts"][0]["kept"] == 1


def test_a_correction_reaches_the_runner(client: Client) -> None:
    """The runner counts a corrected label apart from the joined ones."""
    before = wait_for(lambda: client.read("/status").get("labels"), "the runner's first status")
    (one,) = client.predict(rows(1))["prediction_ids"]
    client.label([one], [1])
    client.label([one], [0], corrects=True)

    def corrected() -> bool:
        labels = client.read("/status")["labels"]
        return bool(labels["corrected"] > before["corrected"])

    wait_for(corrected, "the correction")


def test_rows_with_their_features_need_no_id(client: Client) -> None:
    """A client that keeps no ids sends the row itself; equal rows count once, under any keys."""
    as_list = {"features": ROW, "label": 1, "source": "till"}
    as_object = {**as_list, "features": dict(zip(ARTICLE_FEATURES, ROW, strict=True))}
    assert client.ask("/feedback", {"items": [as_list]})["accepted"] == 1
    assert client.ask("/feedback", {"items": [as_object]})["already_known"] == 1
    keyed = [{**as_list, "key": key} for key in ("a", "b", "a")]
    answer = client.ask("/feedback", {"items": keyed})
    assert (answer["accepted"], answer["already_known"]) == (0, 3)


def test_feedback_may_go_to_any_worker(client: Client, server: ServedService) -> None:
    """Each worker knows ids that the other one issued."""
    seen: set[int] = set()

    def both() -> bool:
        with Client(server) as one, Client(server) as other:
            pids = {one.read("/status")["worker"]["pid"], other.read("/status")["worker"]["pid"]}
            if len(pids) == 2:
                ids = one.predict(rows(3))["prediction_ids"]
                assert other.label(ids, [0, 1, 0])["accepted"] == 3
                seen.update(pids)
            return len(seen) == 2

    wait_for(both, "two connections that meet two workers")


# -- bad input ------------------------------------------------------------------------------------

NAMED = dict(zip(ARTICLE_FEATURES, ROW, strict=True))


def changed(at: int, value: str) -> str:
    """The body of a prediction whose second row has raw JSON in one place."""
    bad = ", ".join(value if i == at else str(v) for i, v in enumerate(ROW))
    return f'{{"rows": [{json.dumps(ROW)}, [{bad}]]}}'


BAD_ROWS = {
    "too narrow": (json.dumps({"rows": [ROW, ROW[:-1]]}), ["rows.1", "9", "10"]),
    "too wide": (json.dumps({"rows": [[*ROW, 1.0]]}), ["rows.0", "11", "10"]),
    "NaN": (changed(7, "NaN"), ["rows.1.V14", "nan"]),
    "infinity": (changed(7, "Infinity"), ["rows.1.V14", "inf"]),
    "negative infinity": (changed(2, "-Infinity"), ["rows.1.F2", "-inf"]),
    "over float32": (changed(3, "1e39"), ["rows.1.F3", "1e+39"]),
    "huge integer": (changed(3, "1" + "0" * 400), ["rows.1.F3"]),
    "text": (changed(4, '"abc"'), ["rows.1.F4", "'abc'"]),
    "number as text": (changed(4, '"1.5"'), ["rows.1.F4", "'1.5'"]),
    "bool": (changed(4, "true"), ["rows.1.F4", "True"]),
    "null": (changed(4, "null"), ["rows.1.F4", "None"]),
    "nested": (changed(4, "[1]"), ["rows.1.F4", "[1]"]),
    "unknown feature": (
        json.dumps({"rows": [NAMED, {**NAMED, "V99": 1.0}]}), ["rows.1.V99", "unknown"],
    ),
    "missing feature": (
        json.dumps({"rows": [{k: v for k, v in NAMED.items() if k != "V14"}]}),
        ["rows.0.V14", "missing"],
    ),
    "NaN by name": (
        json.dumps({"rows": [{**NAMED, "V14": float("nan")}]}), ["rows.0.V14", "nan"],
    ),
    "mixed": (json.dumps({"rows": [NAMED, ROW]}), ["rows"]),
    "empty": ('{"rows": []}', ["rows", "empty"]),
    "empty row": ('{"rows": [[]]}', ["rows.0", "0 values"]),
    "over the limit": (
        json.dumps({"rows": [ROW] * (MAX_ROWS + 1)}), ["rows", str(MAX_ROWS + 1), str(MAX_ROWS)],
    ),
    "one number": ('{"rows": 5}', ["rows", "5"]),
    "one row": (json.dumps({"rows": ROW}), ["rows.0", "0.1"]),
    "no rows": ("{}", ["rows"]),
    "null rows": ('{"rows": null}', ["rows"]),
    "wrong field": (json.dumps({"row": [ROW]}), ["rows"]),
    "a list": (json.dumps([ROW]), ["object", "dict", "rows"]),
    "not JSON": ('{"rows": [[0.1,', ["JSON", "json"]),
    "no body": ("", ["JSON", "json", "rows"]),
}  # fmt: skip
ANY_OF = {"a list", "not JSON", "no body"}

BAD_ITEMS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "no class": (lambda i: {"prediction_id": i, "label": 0.5}, ["items.1.label", "0.5"]),
    "text label": (lambda i: {"prediction_id": i, "label": "fraud"}, ["items.1.label", "'fraud'"]),
    "bool label": (lambda i: {"prediction_id": i, "label": True}, ["items.1.label", "True"]),
    "list label": (lambda i: {"prediction_id": i, "label": [1]}, ["items.1.label", "[1]"]),
    "null label": (lambda i: {"prediction_id": i, "label": None}, ["items.1.label", "None"]),
    "half label": (lambda i: {"prediction_id": i, "label": 0.5}, ["items.1.label", "0.5"]),
    "no label": (lambda i: {"prediction_id": i}, ["label"]),
    "neither id nor row": (lambda i: {"label": 1}, ["items.1", "prediction_id", "features"]),
    "both id and row": (
        lambda i: {"prediction_id": i, "features": ROW, "label": 1},
        ["items.1", "prediction_id", "features"],
    ),
    "narrow features": (lambda i: {"features": ROW[:3], "label": 1}, ["items.1.features", "3"]),
    "text in features": (
        lambda i: {"features": [*ROW[:7], "x", *ROW[8:]], "label": 1},
        ["items.1.features.V14", "'x'"],
    ),
    "unknown feature": (
        lambda i: {"features": {**NAMED, "V99": 1}, "label": 1}, ["items.1.features.V99"],
    ),
    "features as text": (lambda i: {"features": "abc", "label": 1}, ["items.1.features", "'abc'"]),
    "id as number": (lambda i: {"prediction_id": 5, "label": 1}, ["prediction_id"]),
    "unknown field": (lambda i: {"prediction_id": i, "label": 1, "weight": 2}, ["weight"]),
    "long source": (lambda i: {"prediction_id": i, "label": 1, "source": "s" * 201}, ["source"]),
    "NUL in source": (lambda i: {"prediction_id": i, "label": 1, "source": "a\0b"}, ["source"]),
    "not an object": (lambda i: 5, ["items"]),
}  # fmt: skip


def assert_still_answers(client: Client) -> None:
    """Ready, and predicting."""
    assert client.get("/readyz").status_code == 200
    assert len(client.predict([ROW])["prediction_ids"]) == 1


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_refused_by_name(client: Client, case: str) -> None:
    """A bad prediction request gets a 4xx that names the field and the value; service goes on."""
    body, named = BAD_ROWS[case]
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert not response.json()["error"].startswith("1 validation error"), response.text
    found = [word in response.text for word in named]
    assert any(found) if case in ANY_OF else all(found), response.text
    assert_still_answers(client)


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_feedback_is_refused_whole_and_by_name(client: Client, case: str) -> None:
    """One bad item gets a 4xx that names it, and none of its request is kept."""
    make, named = BAD_ITEMS[case]
    ids = client.predict(rows(2))["prediction_ids"]
    items = [{"prediction_id": ids[0], "label": 1}, make(ids[1])]
    response = client.post("/feedback", json={"items": items})
    assert 400 <= response.status_code < 500, response.text
    assert [word for word in named if word not in response.text] == [], response.text
    assert not response.json()["error"].startswith("1 validation error"), response.text
    assert client.label(ids[:1], [1])["accepted"] == 1
    assert_still_answers(client)


def test_too_many_or_no_items_are_refused(client: Client) -> None:
    """Feedback keeps to the same limit as predictions, and an empty list is no feedback."""
    item = {"prediction_id": "x", "label": 1}
    for items, named in (([item] * (MAX_ROWS + 1), str(MAX_ROWS + 1)), ([], "no items")):
        response = client.post("/feedback", json={"items": items})
        assert 400 <= response.status_code < 500
        assert "items" in response.text
        assert named in response.text
    assert client.post("/feedback", json={}).status_code == 400


@pytest.mark.parametrize(
    ("body", "named"),
    [({"version": 0}, "version"), ({"version": "x"}, "version"), ({"versoin": 3}, "versoin")],
)
def test_a_bad_rollback_is_refused_by_name(client: Client, body: Any, named: str) -> None:
    """An operator's typing error rolls nothing back."""
    response = client.post("/rollback", json=body)
    assert 400 <= response.status_code < 500
    assert named in response.text
    assert [p["kind"] for p in client.read("/promotions")] == ["initial"]


@pytest.mark.parametrize("path", ["/promotions", "/events", "/history"])
@pytest.mark.parametrize("place", ["-1", "x", str(2**63), str(10**40)])
def test_a_bad_place_is_refused_by_name(client: Client, path: str, place: str) -> None:
    """A place that no log can have is the client's error."""
    for name in ("after",) if path == "/history" else ("after", "before"):
        response = client.get(path, params={name: place})
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["query", name]


# -- what operators read --------------------------------------------------------------------------


def test_operators_can_read_where_the_service_stands(client: Client, package: Package) -> None:
    """Status, snapshots, events and promotions answer from the first minute on."""
    wait_for(lambda: "state" in client.read("/status"), "the runner's first status")
    status = client.read("/status")
    assert status["model"] == package.tag
    assert status["runner_alive"] is True
    assert status["serving"]["version"] == status["worker"]["serving_version"] == 1
    (clean,) = [s for s in client.read("/snapshots") if s["phase"] == "clean"]
    assert clean["serving"] is True
    assert [e["kind"] for e in client.read("/events?after=0&limit=1")] == ["deployed"]
    (initial,) = client.read("/promotions")
    assert (initial["kind"], initial["version"], initial["by"]) == ("initial", 1, getpass.getuser())
    assert client.read(f"/promotions?after={initial['seq']}") == []


def test_the_openapi_page_shows_every_endpoint_with_examples(client: Client) -> None:
    """A stranger can read off docs.json what to send and what comes back."""
    paths = client.read("/docs.json")["paths"]
    posts = {"/predict", "/feedback", "/rollback", "/pause", "/resume", "/heal"}
    gets = {"/status", "/snapshots", "/events", "/promotions"}
    assert posts <= {path for path, methods in paths.items() if "post" in methods}
    assert gets <= {path for path, methods in paths.items() if "get" in methods}
    text = json.dumps(client.read("/docs.json"))
    schemas = client.read("/docs.json")["components"]["schemas"]
    for path in ("/predict", "/feedback"):
        post = json.dumps(_resolved(paths[path]["post"], schemas))
        request = json.dumps(_resolved(paths[path]["post"]["requestBody"], schemas))
        answer = json.dumps(_resolved(paths[path]["post"]["responses"]["200"], schemas))
        assert '"example' in request, post
        assert '"example' in answer, post
    assert "nobody-issued-this.0" in text


def _resolved(node: Any, schemas: dict[str, Any]) -> Any:
    """A part of the page with what it refers to."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _resolved(schemas[node["$ref"].rsplit("/", 1)[1]], schemas)
        return {key: _resolved(value, schemas) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, schemas) for value in node]
    return node


def test_the_example_of_the_page_is_accepted(client: Client) -> None:
    """What the page shows as a prediction request works when it is pasted."""
    page = client.read("/docs.json")
    body = page["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    schema = _resolved(body["schema"], page["components"]["schemas"])
    example = schema["properties"]["rows"]["example"]
    assert len(example[0]) == WIDTH
    assert len(client.predict(example)["probabilities"]) == len(example)


def test_the_page_may_load_its_own_files_alone(client: Client) -> None:
    """Every file of the page comes under a policy that allows nothing from elsewhere, no script in
    the text, and no frame around it."""
    for path in ("/selfheal/", "/selfheal/page.js", "/selfheal/vendor/uPlot.iife.min.js"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';"), path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_bentomls_page_loads_files_of_the_service_alone(client: Client) -> None:
    """BentoML's API page has a tracker's script and badges of other hosts: a browser may load
    neither, and the description shows none."""
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "script-src" not in policy
    assert "http" not in policy
    told = client.read("/docs.json")["info"]["description"]
    assert "![" not in told
    assert told.startswith("# ")


def test_metrics_carry_our_figures_beside_bentomls(client: Client) -> None:
    """/metrics has the state, z, heals and feedback, and BentoML's own request counts."""
    ids = client.predict(rows(3))["prediction_ids"]
    client.label(ids, [0, 0, 1])
    wait_for(lambda: "state" in client.read("/status"), "the runner's first status")
    figures = _figures(client.get("/metrics").text)
    assert sum(figures[f'selfheal_state{{state="{s}"}}']
               for s in ("HEALTHY", "DRIFTING", "HEALING", "ROLLED_BACK")) == 1  # fmt: skip
    assert figures["selfheal_serving_version"] == 1
    assert "selfheal_heals_total" in figures
    assert figures["selfheal_signal_z"] >= 0
    assert figures['selfheal_feedback_total{outcome="accepted"}'] >= 3
    assert any(name.startswith("bentoml_service_request_total") for name in figures)


def _figures(text: str) -> dict[str, float]:
    """Prometheus' text format → value by name and labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {name: float(value) for name, value in pairs}


SETTLED_SECONDS = 5 * REPORT_SECONDS
"""Within which a worker has surely told what it counted."""


def test_predictions_are_counted_as_bentoml_counts(client: Client) -> None:
    """`bentoml_service_request_total` and the duration's histogram count what the lane answers,
    each request once and soon after."""
    total = ('bentoml_service_request_total{endpoint="/predict",http_response_code="%d",'
             'runner_name="SelfHealing",service_name="SelfHealing",'
             'service_version="not available"}')  # fmt: skip
    timed = total.replace("request_total", "request_duration_seconds_count")
    names = [kind % status for kind in (total, timed) for status in (200, 400)]

    def counted() -> list[float]:
        figures = _figures(client.get("/metrics").text)
        return [figures.get(name, 0.0) for name in names]

    def at_rest() -> list[float] | bool:
        now = counted()
        time.sleep(SETTLED_SECONDS)  # no event says that a worker has told all that it counted
        return now == counted() and now

    before = wait_for(at_rest, "the counts at rest")
    for _ in range(3):
        client.predict([ROW])
    assert client.post("/predict", json={"rows": [[1.0]]}).status_code == 400
    expected = [count + more for count, more in zip(before, (3, 1, 3, 1), strict=True)]
    wait_for(lambda: counted() == expected, "three good requests and a bad one, each counted once")


@pytest.mark.slow
def test_access_log(serve: Callable[..., ServedService], server: ServedService) -> None:
    """Predictions stay out of the access log until they are asked for; all else is in it."""
    quiet = serve(workers=1)
    for one, wanted in ((quiet, False), (server, True)):
        with Client(one) as client:
            before = len(one.log.read_text())
            client.predict([ROW])
            client.read("/status")
            log = wait_for(
                lambda at=before, s=one: "path=/status" in (t := s.log.read_text()[at:]) and t,
                "the access log",
            )
            assert ("path=/predict" in log) is wanted


@pytest.mark.slow
def test_no_feature_value_is_logged(client: Client, server: ServedService) -> None:
    """Whatever becomes of a request, its rows do not stand in the log."""
    odd = [*ROW[:-1], 7.654321]

    def learned() -> int:
        return int((client.read("/status").get("labels") or {}).get("joined", 0))

    client.predict([odd])
    before = learned()
    client.ask("/feedback", {"items": [{"features": odd, "label": 1, "source": "desk"}]})
    for path, body in (
        ("/predict", {"rows": [odd[1:]]}),
        ("/predict", {"rows": {"V14": 7.654321}}),
        ("/predict", {"rows": [["x", *odd[1:]]]}),
        ("/feedback", {"items": [{"features": odd[1:], "label": 1}]}),
        ("/feedback", {"items": [{"features": odd, "label": 7.654321}]}),
        ("/feedback", {"items": 7.654321}),
    ):
        assert client.post(path, json=body).status_code == 400, body
    wait_for(lambda: learned() > before, "the runner has learned the row")
    log = wait_for(lambda: (t := server.log.read_text()).count("path=/feedback") and t, "the log")
    assert "7.65432" not in log


# -- restarts -------------------------------------------------------------------------------------


@pytest.mark.long  # test_crash does so in CI, after kill -9
@pytest.mark.slow
def test_ids_outlive_the_server(serve: Callable[..., ServedService]) -> None:
    """A label for a prediction of before a full restart is accepted and joined after it."""
    with serve(workers=1) as server, Client(server) as client:
        ids = client.predict(rows(4))["prediction_ids"]
        server.close()
    with serve(workers=1) as server, Client(server) as client:
        assert client.label(ids, [0, 1, 0, 1])["accepted"] == 4
        wait_for(
            lambda: (client.read("/status").get("labels") or {}).get("joined") == 4,
            "labels joined with predictions of before the restart",
        )
