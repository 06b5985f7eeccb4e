"""Telemetry as it leaves: real OTLP over HTTP from a healing server, decoded."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import BRISK, ROOT, wait_for
from live import Client, Feeder
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.telemetry import names

SPANS = {
    "selfheal.predict", "selfheal.feedback", "selfheal.join", "selfheal.signal", "selfheal.heal",
    "selfheal.gate", "selfheal.snapshot", "selfheal.promote", "selfheal.reload",
    "selfheal.rollback",
}  # fmt: skip
GAUGES = {
    "selfheal.signal.z": "{sigma}", "selfheal.signal.conflicts": "{row}",
    "selfheal.signal.distance": "{sigma}",
    "selfheal.threshold.z": "{sigma}", "selfheal.threshold.conflicts": "{row}",
    "selfheal.runner.alive": "{runner}", "selfheal.unread.age": "s", "selfheal.runner.cpu": "1",
    "selfheal.champion.accuracy": "1", "selfheal.champion.f1": "1",
    "selfheal.shadow.accuracy": "1", "selfheal.shadow.f1": "1", "selfheal.lift.mean": "1",
    "selfheal.lift.low": "1", "selfheal.lift.high": "1",
    "selfheal.label.delay": "s", "selfheal.serving.version": "{version}",
    "selfheal.thread.alive": "{thread}", "selfheal.one_class": "{alarm}",
    "selfheal.one_sided": "{alarm}", "selfheal.majority.accuracy": "1",
    "selfheal.champion.auc": "1", "selfheal.champion.average_precision": "1",
    "selfheal.shadow.auc": "1", "selfheal.shadow.average_precision": "1",
    "selfheal.champion.recall": "1", "selfheal.shadow.recall": "1", "selfheal.alarms": "1",
}  # fmt: skip
COUNTERS = {
    "selfheal.heals": "{heal}", "selfheal.rollbacks": "{rollback}",
    "selfheal.promotions": "{promotion}", "selfheal.feedback": "{label}",
    "selfheal.predictions": "{row}", "selfheal.label.joined": "{label}",
    "selfheal.label.unmatched": "{label}", "selfheal.dropped": "{row}",
    "selfheal.refused": "{request}", "selfheal.thread.failures": "{failure}",
    "selfheal.label.retracted": "{label}", "selfheal.label.new_class": "{label}",
}  # fmt: skip
LEVELS = {
    "selfheal.state": "1",
    "selfheal.queue": "{row}",
    "selfheal.label.waiting": "{label}",
    "selfheal.request.unread": "{request}",
    "selfheal.label.unread": "{label}",
}

TOKEN, WRONG = (f"{name}-0123456789abcdef" for name in ("anna", "strange"))
ODD = 7.654321

pytestmark = pytest.mark.slow


@dataclass
class Receiver:
    """A collector: what came in, decoded."""

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    metrics: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0
    log: str = ""
    """What the server printed."""

    def named(self, name: str) -> list[Span]:
        """Spans of one name."""
        return [s for s in list(self.spans) if s.name == name]

    def take(self, path: str, body: bytes) -> None:
        self.requests += 1
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services.add(attributes(resource.resource)["service.name"])
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self.metrics[metric.name].append(metric)


@contextmanager
def receiving(port: int) -> Iterator[Receiver]:
    """An OTLP/HTTP endpoint that decodes what it gets; port 0 asks the system for one."""
    taken = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            taken.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        taken.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield taken
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A collector for the module."""
    with receiving(0) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def told(
    receiver: Receiver, home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Receiver:
    """The receiver after a server with tokens has predicted, healed, promoted and rolled back, and
    has refused what carried `ODD`."""
    folder = tmp_path_factory.mktemp("otlp")
    # Health so touchy that the next older snapshot with a lucky batch takes over.
    (folder / "state").mkdir()
    touchy = '{"rollback_f1_drop": 1.0, "rollback_acc_drop": 0.0}'
    (folder / "state" / "threshold_config.json").write_text(touchy)
    env = {
        "SELFHEAL_MODEL": package.tag,
        "SELFHEAL_STATE_DIR": str(folder / "state"),
        "SELFHEAL_WORKERS": "1",
        "SELFHEAL_HEALTH": "article",
        "SELFHEAL_TUNING__RECIPE": "replay",
        "SELFHEAL_HEALTH_WINDOW": "3",
        "SELFHEAL_LOG_FORMAT": "json",
        **{
            f"SELFHEAL_{role}_TOKENS": f"anna={TOKEN}"
            for role in ("PREDICT", "FEEDBACK", "OPERATE")
        },
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        **BRISK,
    }
    with (
        ServedService(
            "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
        ) as server,
        Client(server) as client,
    ):
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        feeder = Feeder(client, workers=1)
        wait_for(lambda: feeder.batch()["promotions"], "a promotion", 120)
        wait_for(lambda: feeder.batch()["rollbacks"], "a rollback by health", 100)
        client.ask("/rollback", {"version": 1})
        client.all_serve(1, 1)
        _send_odd(client)
        rollbacks = wait_for(lambda: _after_the_operator(client), "the operator's rollback seen")

        def told_all() -> bool:
            return (
                receiver.metrics.keys() >= GAUGES.keys() | COUNTERS.keys() | LEVELS.keys()
                and _newest(receiver, "selfheal.rollbacks") == rollbacks
                and _newest(receiver, "selfheal.serving.version") == 1
            )

        wait_for(told_all, "the last metrics")
    receiver.log = (folder / "server.log").read_text()
    return receiver  # the server has ended and has flushed its last spans


def _send_odd(client: Client) -> None:
    """Rows with a value that is nowhere else, good ones and bad ones."""
    row = [ODD, *[0.0] * 9]
    client.predict([row])
    client.ask("/feedback", {"items": [{"features": row, "label": 1}]})
    for path, body in (
        ("/predict", {"rows": [row[1:]]}),
        ("/predict", {"rows": [[str(ODD), *row[1:]]]}),
        ("/feedback", {"items": [{"features": row, "label": ODD}]}),
    ):
        assert client.post(path, json=body).status_code == 400
    assert client.get("/status", headers={"Authorization": f"Bearer {WRONG}"}).status_code == 401


def _after_the_operator(client: Client) -> int:
    """Rollbacks that the runner counts once it has seen the operator's."""
    status = client.read("/status")
    return int(status["rollbacks"]) if status["serving"]["version"] == 1 else 0


def attributes(carrier: Any) -> dict[str, Any]:
    """Attributes as Python values."""
    return {a.key: _value(a.value) for a in carrier.attributes}


def _value(value: AnyValue) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return [_value(v) for v in found.values] if value.HasField("array_value") else found


def _points(metric: Any) -> Any:
    return getattr(metric, metric.WhichOneof("data")).data_points


def _newest(receiver: Receiver, name: str) -> float:
    point = _points(receiver.metrics[name][-1])[0]
    return float(getattr(point, point.WhichOneof("value")))


def test_no_feature_value_and_no_token_is_told(told: Receiver) -> None:
    """Neither stands in a span, an event of one, or a metric."""
    all_told = "\n".join(map(str, [*told.spans, *told.metrics.items()]))
    assert "selfheal.predict" in all_told
    for secret in (str(ODD)[:8], TOKEN, WRONG):
        assert secret not in all_told


def test_a_span_for_each_step_arrives(told: Receiver) -> None:
    """From the answer to the rollback, each step of the loop is a span of its name."""
    assert {s.name for s in told.spans} >= SPANS
    assert {"SelfHealing", "HealingRunner"} <= told.services


def test_a_prediction_joins_bentomls_request_trace(told: Receiver) -> None:
    """The predict and feedback spans stand below BentoML's span of the request."""
    by_id = {s.span_id: s for s in told.spans}
    for name, path in (("selfheal.predict", "predict"), ("selfheal.feedback", "feedback")):
        spans = told.named(name)
        assert spans
        for span in spans:
            parent = by_id[span.parent_span_id]
            assert parent.trace_id == span.trace_id
            while parent.parent_span_id in by_id:
                parent = by_id[parent.parent_span_id]
            assert path in parent.name
            assert not parent.name.startswith("selfheal.")
    predicted = attributes(told.named("selfheal.predict")[0])
    assert predicted["selfheal.rows"] == 100
    assert predicted["selfheal.canary"] is False
    counts = attributes(told.named("selfheal.feedback")[0])
    assert counts["selfheal.feedback.accepted"] == 100


def test_a_heal_tells_its_losses_and_links_to_its_feedback(told: Receiver) -> None:
    """Across processes a heal points at the very requests whose labels triggered it."""
    given = {(s.trace_id, s.span_id) for s in told.named("selfheal.feedback")}
    heals = told.named("selfheal.heal")
    assert heals
    for heal in heals:
        told_of = attributes(heal)
        assert told_of["selfheal.loss.real"] > 0
        assert told_of["selfheal.loss.total"] > 0
        assert told_of["selfheal.recipe"] == "replay"
        assert told_of["selfheal.outcome"] in {"trained", "promoted"}
        links = {(link.trace_id, link.span_id) for link in heal.links}
        assert links
        assert links <= given
        assert set(told_of["selfheal.link.trace_ids"]) == {trace.hex() for trace, _ in links}
    numbers = [attributes(h)["selfheal.heal.number"] for h in heals]
    assert sorted(numbers) == list(range(1, len(heals) + 1))


def test_snapshots_are_children_of_their_heal(told: Receiver) -> None:
    """One before and one after, inside the heal's span."""
    for heal in told.named("selfheal.heal"):
        own = [s for s in told.named("selfheal.snapshot") if s.parent_span_id == heal.span_id]
        phases = [attributes(s)["selfheal.snapshot.phase"] for s in own]
        assert sorted(phases) == ["post-heal", "pre-heal"]


def test_signals_and_the_gate_tell_what_they_saw(told: Receiver) -> None:
    """z, conflicts and the verdict are attributes."""
    signals = [attributes(s) for s in told.named("selfheal.signal")]
    assert max(s["selfheal.signal.z"] for s in signals) > 1
    assert any(s["selfheal.signal.drifting"] for s in signals)
    verdicts = [attributes(s) for s in told.named("selfheal.gate")]
    assert "promote" in {v["selfheal.outcome"] for v in verdicts}
    assert all(v["selfheal.gate.log_e_needed"] >= 0 for v in verdicts)


def test_a_reload_links_to_its_promotion(told: Receiver) -> None:
    """A worker's swap points at the promotion or rollback in the runner, by the log."""
    decided = told.named("selfheal.promote") + told.named("selfheal.rollback")
    promotions = {(s.trace_id, s.span_id): s for s in decided}
    assert len(promotions) >= 2
    linked = {
        (link.trace_id, link.span_id): attributes(reload)["selfheal.version"]
        for reload in told.named("selfheal.reload")
        for link in reload.links
    }
    assert len(linked) >= 2
    for context, version in linked.items():
        assert version == attributes(promotions[context])["selfheal.version"]
    # One that another followed at once is taken by no worker; the newest is by all.
    newest = max(promotions.values(), key=lambda s: s.end_time_unix_nano)
    assert (newest.trace_id, newest.span_id) in linked


def test_every_attribute_is_described(told: Receiver) -> None:
    """What our spans carry stands in the table of attributes, with its type."""
    types = {"int": int, "double": (int, float), "string": str, "boolean": bool, "string[]": list}
    for span in (s for s in told.spans if s.name.startswith("selfheal.")):
        assert span.name in names.SPANS
        for key, value in attributes(span).items():
            family = f"{key.rpartition('.')[0]}.<"
            [kind] = [told_of[0] for name, told_of in names.ATTRIBUTES.items()
                      if name == key or name.startswith(family)]  # fmt: skip
            assert isinstance(value, types[kind]), (key, value)


def test_log_lines_lead_to_their_spans(told: Receiver) -> None:
    """As JSON each of our lines is an object; those on heals, promotions, rollbacks, drift and
    reloads have the ids of a span that arrived, of just that step."""
    by_id = {(s.trace_id.hex(), s.span_id.hex()): s.name for s in told.spans}
    spans_of = {
        "heal": "selfheal.heal", "promote": "selfheal.promote", "rollback": "selfheal.rollback",
        "drifting": "selfheal.signal", "serving": "selfheal.reload",
    }  # fmt: skip
    found = set()
    for line in (json.loads(line) for line in told.log.splitlines() if line.startswith("{")):
        assert line.keys() >= {"time", "level", "logger", "message"}
        word = line["message"].split()[0]
        if word in spans_of and "trace_id" in line:
            assert by_id[line["trace_id"], line["span_id"]] == spans_of[word], line
            found.add(word)
    assert found == spans_of.keys()
    assert "[HealingRunner] heal at" not in told.log  # nothing is written twice


def test_metrics_arrive_with_their_units(told: Receiver) -> None:
    """The figures of the loop, as gauges and counters with values that fit the run."""
    for name, unit in GAUGES.items():
        assert told.metrics[name][-1].unit == unit, name
        assert told.metrics[name][-1].WhichOneof("data") == "gauge", name
    for name, unit in COUNTERS.items():
        metric = told.metrics[name][-1]
        assert metric.unit == unit, name
        assert metric.sum.is_monotonic, name
    for name, unit in LEVELS.items():
        metric = told.metrics[name][-1]
        assert metric.unit == unit, name
        assert metric.WhichOneof("data") == "sum", name
        assert not metric.sum.is_monotonic, name
    assert told.metrics.keys() == GAUGES.keys() | COUNTERS.keys() | LEVELS.keys()
    assert _newest(told, "selfheal.runner.alive") == 1
    assert _newest(told, "selfheal.signal.z") > 1
    assert _newest(told, "selfheal.heals") >= 1
    assert _newest(told, "selfheal.promotions") >= 1
    states = {attributes(p)["selfheal.state"]: p.as_int
              for p in _points(told.metrics["selfheal.state"][-1])}  # fmt: skip
    assert sum(states.values()) == 1
    assert states["ROLLED_BACK"] == 1
    feedback = {attributes(p)["selfheal.outcome"]: p.as_int
                for p in _points(told.metrics["selfheal.feedback"][-1])}  # fmt: skip
    assert feedback["accepted"] >= 300


def test_nothing_leaves_unless_it_is_asked_for(
    serve: Callable[..., ServedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an endpoint in OTEL_*, no request reaches the port that OTLP uses by default."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    try:
        with receiving(4318) as receiver:
            # These make an exporter talk soon; they ask for none.
            often = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
            server = serve(workers=1, **often)
            with Client(server) as client:
                feeder = Feeder(client, workers=1)
                wait_for(lambda: feeder.batch()["heals"], "a heal", 120)
            server.close()
            assert receiver.requests == 0
    except OSError as error:
        pytest.skip(f"port 4318 is taken: {error}")
