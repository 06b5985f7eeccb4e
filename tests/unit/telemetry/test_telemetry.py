"""The names of telemetry: a table each in the docs, OpenTelemetry's rules; log lines as JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import wait_for
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from telemetry_tables import PAGE, written

from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.serving.worker_metrics import Instruments, WorkerMeters
from bento_selfheal.telemetry import names as telemetry
from bento_selfheal.telemetry.listed import ALL_METRICS
from bento_selfheal.telemetry.logs import OURS, log_with_bentoml
from bento_selfheal.telemetry.metrics import exposition, with_threads
from bento_selfheal.telemetry.names import ATTRIBUTES, SPANS, STATUS_CODE
from bento_selfheal.telemetry.spans import Telemetry, within

NAME = re.compile(r"selfheal(\.[a-z][a-z0-9_]*)+(\.<[a-z]+>)?")
STANDARD = {STATUS_CODE}
"""Names of OpenTelemetry's own."""
UNIT = re.compile(r"1|s|\{[a-z]+\}")


def test_the_page_has_the_tables_of_the_code() -> None:
    """docs/telemetry.md lists every span, attribute and metric as the code has them now."""
    page = PAGE.read_text()
    assert page == written(page), "run: python docs/telemetry_tables.py"
    for name in (*SPANS, *ATTRIBUTES, *(m.name for m in ALL_METRICS)):
        assert f"`{name}`" in page


def test_every_name_is_described() -> None:
    """No name of telemetry.py is missing in its tables of spans and attributes."""
    told = {*SPANS, *(name.partition(".<")[0] for name in ATTRIBUTES)}
    texts = [v for k, v in vars(telemetry).items() if k.isupper() and isinstance(v, str)]
    assert {text for text in texts if text.startswith("selfheal.")} <= told


def test_names_follow_the_conventions() -> None:
    """Small letters and dots, units of UCUM, no name that is also the beginning of another."""
    metrics = [m.name for m in ALL_METRICS]
    for names in ([*SPANS], [*ATTRIBUTES], metrics):
        assert len(set(names)) == len(names)
        for name in names:
            assert NAME.fullmatch(name) or name in STANDARD, name
            assert not [other for other in names if other.startswith(f"{name}.")], name
    for metric in ALL_METRICS:
        assert UNIT.fullmatch(metric.unit), metric.name
        assert metric.attribute in {"", *ATTRIBUTES}
        assert not metric.name.endswith("total")
        assert metric.kind != "updowncounter" or not metric.name.endswith("s"), metric.name
    assert len({m.prometheus for m in ALL_METRICS}) == len(metrics)


def test_a_dead_runner_shows_as_zero() -> None:
    """`/metrics` tells a runner that is gone from one that has not been asked."""
    assert "selfheal_runner_alive 0.0" in exposition({"": {"runner_alive": False}})
    assert "selfheal_runner_alive 1.0" in exposition({"": {"runner_alive": True}})
    assert "selfheal_runner_alive" not in exposition({"": {}})


def test_a_workers_figures_need_no_scrape() -> None:
    """A scraper asks one worker only; what the others dropped and keep waiting shows all the same,
    for `/metrics` adds up what each has put down by itself."""
    labels = PeriodicThread("selfheal-labels", lambda: None, 60.0).state()
    said: dict[str, Any] = {"queue_rows": 5, "dropped_rows": 7, "threads": [labels]}
    meters = WorkerMeters(Instruments(None), lambda: said, lambda: True, lambda: 0.0)
    try:
        shown = REGISTRY.get_sample_value
        wait_for(lambda: shown("selfheal_dropped_total") == 7, "the drops")
        assert shown("selfheal_queue") == 5
        assert shown("selfheal_thread_alive", {"thread": "selfheal-labels"}) == 0
        assert shown("selfheal_thread_alive", {"thread": "selfheal-meters"}) == 1
        failed = {**labels, "alive": True, "failures": 3}
        said |= {"queue_rows": 0, "dropped_rows": 9, "threads": [failed]}
        wait_for(lambda: shown("selfheal_dropped_total") == 9, "further drops")
        assert shown("selfheal_queue") == 0
        assert shown("selfheal_thread_alive", {"thread": "selfheal-labels"}) == 1
        assert shown("selfheal_thread_failures_total", {"thread": "selfheal-labels"}) == 3
        meters.feedback({"accepted": 3, "unknown": 0})
        assert shown("selfheal_feedback_total", {"outcome": "accepted"}) == 3
    finally:
        meters.thread.stop()


def test_threads_of_the_runner_stand_beside_the_workers() -> None:
    """A page has each metric once, with the threads of both; without workers, the runner's."""
    worker = PeriodicThread("selfheal-log", lambda: None, 60.0).state()
    runner = {**worker, "name": "selfheal-heal", "alive": True, "failures": 2}
    alone = with_threads("", {"": [runner]})  # type: ignore[list-item]
    both = with_threads(with_threads("", {"": [worker]}), {"": [runner]})  # type: ignore[list-item]
    for page, expected in ((alone, 1), (both, 2)):
        families = {f.name: f.samples for f in text_string_to_metric_families(page)}
        assert set(families) == {"selfheal_thread_alive", "selfheal_thread_failures"}
        assert [len(samples) for samples in families.values()] == [expected, expected]
        found = {(s.name, s.labels["thread"]): s.value for f in families.values() for s in f}
        assert found["selfheal_thread_alive", "selfheal-heal"] == 1
        assert found["selfheal_thread_failures_total", "selfheal-heal"] == 2
    assert with_threads("# a page\n", {}) == "# a page\n"


# -- log lines ------------------------------------------------------------------------------------


@pytest.fixture
def ours() -> Iterator[logging.Logger]:
    """Our logger, put back afterwards as it was."""
    log = logging.getLogger(OURS)
    before = (log.handlers, log.level, log.propagate)
    yield log
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The one line that was printed."""
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    found: dict[str, str] = json.loads(printed)
    return found


def test_a_line_is_one_json_object(
    ours: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time in UTC, level, logger, message; no ids where there is no span."""
    log_with_bentoml("json")
    logging.getLogger(f"{OURS}.runner").warning('said "%s"\n%d', "so", 3)
    said = line(capsys)
    age = datetime.now(UTC) - datetime.fromisoformat(said.pop("time"))
    assert timedelta() <= age < timedelta(minutes=1)
    assert said == {
        "level": "WARNING", "logger": "bento_selfheal.runner", "message": 'said "so"\n3'
    }  # fmt: skip


def test_a_line_tells_its_span(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A line inside a span has its ids; so has one that is written later on its behalf."""
    log_with_bentoml("json")
    with Telemetry(TracerProvider()).span(telemetry.HEAL) as span:
        ours.error("inside")
        parent = Telemetry.traceparent()
    context = span.get_span_context()
    inside = line(capsys)
    assert int(inside["trace_id"], 16) == context.trace_id
    assert int(inside["span_id"], 16) == context.span_id
    with within(parent):
        ours.error("afterwards")
    afterwards = line(capsys)
    assert afterwards["trace_id"] == inside["trace_id"]
    assert afterwards["span_id"] == inside["span_id"]
    with within(None):
        ours.error("of no span")
    assert "trace_id" not in line(capsys)


def test_a_line_has_the_exception(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback stays in its line."""
    log_with_bentoml("json")
    try:
        raise ValueError("no good")
    except ValueError:
        ours.exception("failed")
    said = line(capsys)
    assert said["message"] == "failed"
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: no good")


def test_plain_lines_are_bentomls(ours: logging.Logger) -> None:
    """By default our lines go through BentoML's own handlers."""
    log_with_bentoml("plain")
    assert ours.handlers == logging.getLogger("bentoml").handlers


def test_webhooks_have_figures_of_their_own() -> None:
    """Each webhook shows what it delivered and what waits, with its name."""
    hook = {"name": "desk", "delivered": 3, "failed": 2, "given_up": 0, "waiting": 4,
            "oldest_seconds": 61.5}  # fmt: skip
    page = exposition({"": {"webhooks": [hook]}})
    for line in (
        'selfheal_webhook_delivered_total{webhook="desk"} 3.0',
        'selfheal_webhook_failed_total{webhook="desk"} 2.0',
        'selfheal_webhook_waiting{webhook="desk"} 4.0',
        'selfheal_webhook_age_seconds{webhook="desk"} 61.5',
    ):
        assert line in page
