"""Bodies that BentoML refuses: answered by field and value, and not an error in the log."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from http import HTTPStatus
from typing import Annotated, Any

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException
from pydantic import WrapValidator

from bento_selfheal.internals import (
    answer_refusals,
    refuse_bad_forms,
    refuse_unknown_fields,
)
from bento_selfheal.serving.http.bad_body import refusal
from bento_selfheal.serving.http.replies import unless_too_many
from bento_selfheal.wire.messages import FeedbackItem, Rows

GOOD = {"prediction_id": "a.0", "label": 1}


@bentoml.service
class Taker:
    """Takes what the service takes, and computes nothing."""

    @bentoml.api
    def predict(self, rows: Rows) -> int:
        """How many rows."""
        return len(rows)

    @bentoml.api
    def feedback(self, items: Annotated[list[FeedbackItem], WrapValidator(unless_too_many)]) -> int:
        """How many items."""
        return len(items)

    @bentoml.api
    def own(self, status: int) -> int:
        """What a user's own endpoint raises."""
        raise BentoMLException("no such account", error_code=HTTPStatus(status))


refuse_bad_forms(Taker.inner.predict, Taker.inner.feedback)  # type: ignore[attr-defined]
refuse_unknown_fields(Taker.inner.predict, Taker.inner.feedback)  # type: ignore[attr-defined]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5000


@pytest.fixture(scope="module")
def app() -> Any:
    """BentoML's application, whose refusals are answered here."""
    made = Taker.to_asgi()  # type: ignore[attr-defined]
    more = {"/predict": lambda: ["application/x-npy", "image/png"]}
    answer_refusals(made, functools.partial(refusal, more=more))
    return made


def post(app: Any, path: str, body: str, kind: str) -> httpx.Response:
    return send(app, path, content=body, headers={"Content-Type": kind})


def send(app: Any, path: str, **request: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            return await client.post(path, **request)

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/predict", '{"rows": [[0.1,', ["body: Invalid JSON", "got"]),
        ("/predict", '{"row": [[0.1]]}', ["rows: missing, got the fields ['row']"]),
        ("/predict", "[1]", ["body: ", "got [1]"]),
        ("/predict", "", ["rows: missing"]),
        (
            "/feedback",
            {"items": [GOOD, {"prediction_id": "b.0"}]},
            ["items.1.label: a label is needed, or retract"],
        ),
        ("/feedback", {"items": [{**GOOD, "corrects": "maybe"}]}, ["items.0.corrects", "'maybe'"]),
        ("/predict", {"rows": [[0.1]], "ids": [5]}, ["ids: unknown field, got [5]"]),
        ("/feedback", {"items": [GOOD], "now": 1}, ["now: unknown field, got 1"]),
        ("/feedback", {"items": [{**GOOD, "id": 3}]}, ["items.0.id: unknown field, got 3"]),
        ("/feedback", {"items": 7}, ["items: ", "got 7"]),
    ],
)
def test_names_field_and_value(
    app: Any, path: str, body: Any, named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is a 400 in the form of all others; the log has no traceback."""
    text = body if isinstance(body, str) else json.dumps(body)
    with caplog.at_level(logging.WARNING):
        response = post(app, path, text, "application/json")
    assert response.status_code == 400, response.text
    said = response.json()
    assert [words for words in named if words not in said["error"]] == [], said
    assert "pydantic" not in response.text
    assert {"loc", "msg", "type"} == said["detail"][0].keys()
    assert [r for r in caplog.records if r.exc_info] == []


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.bentoml+pickle"])
def test_content_type(app: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A type that is not read is a 415 that names it and what to send."""
    response = post(app, "/predict", "0.1,0.2", kind)
    assert response.status_code == 415
    said = f"Content-Type: '{kind}' is not read here; send application/json"
    assert response.json()["error"] == f"{said} or application/x-npy or image/png"
    assert post(app, "/feedback", "0.1,0.2", kind).json()["error"] == said
    assert [r for r in caplog.records if r.exc_info] == []


@pytest.mark.parametrize("field", ["rows", "file"])
def test_a_file_in_a_form(app: Any, field: str, caplog: pytest.LogCaptureFixture) -> None:
    """An image in a form is a 415 that says what a form may hold."""
    response = send(app, "/predict", files={field: ("a.png", PNG, "image/png")})
    assert response.status_code == 415
    assert "'multipart/form-data' is read here where each field is a JSON text" in response.text
    assert [r for r in caplog.records if r.exc_info] == []


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")
@pytest.mark.parametrize(
    ("status", "said"), [(404, "no such account"), (403, "Authorization error")]
)
def test_what_an_own_endpoint_refuses(
    app: Any, status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 4xx that a user's own endpoint raises is one line in the log, as a warning."""
    with caplog.at_level(logging.WARNING):
        response = send(app, "/own", json={"status": status})
    assert (response.status_code, response.json()) == (status, {"error": said})
    [line] = caplog.records
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.getMessage() == f"POST /own: {status} BentoMLException: no such account"


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")
def test_a_failure_keeps_its_traceback(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A 5xx is no client's error."""
    assert send(app, "/own", json={"status": 500}).status_code == 500
    assert any(r.exc_info for r in caplog.records)


@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")
def test_json_by_another_name(app: Any) -> None:
    """JSON is read whatever the client calls it, as before."""
    assert post(app, "/predict", '{"rows": [[1], [2]]}', "text/plain").text == "2"


def test_many_errors_are_cut(app: Any) -> None:
    """A thousand bad items are told by their first ten."""
    items = {"items": [{"prediction_id": "a.0"}] * 1000}
    said = post(app, "/feedback", json.dumps(items), "application/json").json()
    assert len(said["detail"]) == 10
