"""Strangers, tokens, and requests that are too large, too slow or too strange, on real servers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bentoml
import httpx
import psutil
import pytest
from commands import COMMAND
from conftest import ROOT, wait_for
from live import WIDTH, ready, served, unready

from bento_selfheal.client.client import Client
from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.errors import AccessDenied, ServiceUnavailable
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService, free_port
from bento_selfheal.wire.messages import FeedbackItem

PREDICT, FEEDBACK, OPERATE, ALL = (
    f"{name}-0123456789abcdef" for name in ("shop", "desk", "anna", "test")
)
TOKENS = f"""
[predict]
shop = "{PREDICT}"
test = "{ALL}"
[feedback]
desk = "{FEEDBACK}"
test = "{ALL}"
[operate]
anna = "{OPERATE}"
test = "{ALL}"
"""
KEY = "key-0123456789abcdef0123456789abcdef"
MEGABYTES, SECONDS = 4, 2.0
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - to be refused
ROW = [0.1] * WIDTH
READS = ("/status", "/snapshots", "/promotions", "/events", "/history", "/metrics")
COMMANDS = (
    "/rollback", "/heal", "/pause", "/observe", "/resume", "/forget", "/release", "/erase",
    "/thresholds",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    path.write_text(TOKENS)
    return path


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedService]:
    """Two workers with tokens, a key, and small limits."""
    with served(
        home, package, tmp_path_factory.mktemp("security"), workers=2, tokens_file=tokens,
        signing_key=KEY, body_megabytes=MEGABYTES, request_seconds=SECONDS, access_log=True,
        source_labels_per_minute=50,
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    """A client that may do everything."""
    with Client(server.url, token=ALL) as client:
        yield client


def http(server: ServedService, token: str = "") -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


# -- roles ----------------------------------------------------------------------------------------


def test_roles_over_http(server: ServedService) -> None:
    """Through the lane, BentoML's endpoints and what is mounted: each token does what its role
    says, and nothing without one."""
    body = {"json": {"rows": [ROW]}}
    with http(server) as nobody, http(server, PREDICT) as shop, http(server, FEEDBACK) as desk:
        for path in ("/livez", "/readyz", "/healthz", "/selfheal/", "/selfheal/page.js"):
            assert nobody.get(path).status_code == 200, path
        for who, status in ((nobody, 401), (desk, 403)):
            assert who.post("/predict", **body).status_code == status
        assert shop.post("/predict", **body).status_code == 200
        items = {"items": [{"features": ROW, "label": 1}]}
        for who, status in ((nobody, 401), (shop, 403), (desk, 200)):
            assert who.post("/feedback", json=items).status_code == status
        for who, status in ((nobody, 401), (shop, 403), (desk, 403)):
            assert {who.get(path).status_code for path in READS} == {status}
            assert {who.post(path).status_code for path in COMMANDS} == {status}
            assert who.get("/docs.json").status_code == (401 if who is nobody else 200)
    with http(server, OPERATE) as anna:
        assert {anna.get(path).status_code for path in READS} == {200}
        assert anna.post("/predict", **body).status_code == 403


def test_bentoml_client(server: ServedService) -> None:
    """BentoML's own client gets through with its `token`."""
    with bentoml.SyncHTTPClient(server.url, token=PREDICT) as client:
        assert len(client.predict(rows=[ROW])["prediction_ids"]) == 1
    client._temp_dir.cleanup()  # which it leaves to the garbage collector, with a warning


def test_client_and_commands(server: ServedService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Client and commands take a token or the variable; what they lack is one clear line."""
    monkeypatch.delenv("BENTO_SELFHEAL_TOKEN", raising=False)
    with Client(server.url) as client, pytest.raises(AccessDenied, match=r"401 .*token is needed"):
        client.status()

    def status(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "status", "--url", server.url], capture_output=True, text=True, timeout=60,
            env={**os.environ, **env},
        )  # fmt: skip

    assert status(BENTO_SELFHEAL_TOKEN=OPERATE).returncode == 0
    denied = status(BENTO_SELFHEAL_TOKEN=PREDICT)
    assert denied.returncode == 1
    assert "403 the token 'shop' has not the role operate" in denied.stderr
    assert PREDICT not in denied.stderr


def test_rotation(server: ServedService, tokens: Path) -> None:
    """A token that is added to the file holds soon on both workers, and one that is taken out does
    not, with no restart."""
    fresh = "fresh-0123456789abcdef"

    def says(token: str, status: int) -> Callable[[], bool]:
        def both() -> bool:
            asked = [httpx.get(f"{server.url}/status", headers={"Authorization": f"Bearer {token}"})
                     for _ in range(8)]  # fmt: skip
            return {a.status_code for a in asked} == {status}

        return both

    def taken() -> int:
        return server.log.read_text().count("now in force")

    # A worker looks at the file when it is asked something, and who answers is left to chance.
    before = taken()
    tokens.write_text(TOKENS.replace(OPERATE, fresh))
    wait_for(lambda: says(fresh, 200)() and taken() == before + 2, "the new token on both workers")
    wait_for(says(OPERATE, 401), "the end of the old one")
    tokens.write_text("[operate")
    wait_for(
        lambda: says(fresh, 200)() and "is not valid TOML" in server.log.read_text(), "the refusal"
    )
    assert says(fresh, 200)()
    tokens.write_text(TOKENS)
    wait_for(
        lambda: says(OPERATE, 200)() and taken() == before + 4, "the old token on both workers"
    )


def test_who_did_it(server: ServedService, client: Client) -> None:
    """Each operator's action is an event with the name of the token, and a rollback's
    promotion has it too."""
    ids = client.predict([ROW] * 100).prediction_ids
    for desk in range(4):  # each source may send 50 a minute
        own = ids[25 * desk : 25 * (desk + 1)]
        client.feedback([FeedbackItem(prediction_id=i, label=1, source=f"{desk}") for i in own])
    wait_for(lambda: (client.status().get("labels") or {}).get("joined", 0) >= 100, "the labels")
    with Client(server.url, token=OPERATE) as anna:
        for ask in (anna.pause, anna.observe, anna.resume, anna.heal):
            ask()
        anna.forget("nobody")
        other = wait_for(lambda: [s for s in anna.snapshots() if not s.serving], "a heal")[-1]
        done = anna.rollback(other.version)
        assert (done.by, anna.promotions()[-1].by) == ("anna", "anna")
    kinds = {"pause", "observe", "resume", "heal_asked", "quarantine", "rollback"}

    def told() -> dict[str, str] | None:
        by = {e.kind: e.detail["by"] for e in client.events(limit=10_000) if e.kind in kinds}
        return by if by.keys() == kinds else None

    assert set(wait_for(told, "the events").values()) == {"anna"}


def test_refusals_are_counted(server: ServedService) -> None:
    """`/metrics` tells how many were refused, and with what status.

    It stands before `lone`: a server that starts empties the metrics of its home.
    """

    def counted() -> dict[int, float]:
        with http(server, ALL) as client:
            lines = client.get("/metrics").text.splitlines()
        pairs = (re.match(r'selfheal_refused_total{status_code="(\d+)"} (.+)', s) for s in lines)
        return {int(p[1]): float(p[2]) for p in pairs if p}

    before = counted()
    with http(server) as nobody, http(server, PREDICT) as shop:
        assert nobody.get("/status").status_code == 401
        assert shop.get("/status").status_code == 403
    assert status_of(raw(server, head("/predict", "Content-Length: 100000000"))) == 413
    assert status_of(raw(server, head("/predict", "Content-Length: 10"))) == 408
    after = counted()
    for status in (401, 403, 408, 413):
        assert after[status] > before.get(status, 0), status


# -- without tokens -------------------------------------------------------------------------------


class Typed(ServedService):
    """`bentoml serve` as it is typed, on a free port; what it prints goes to a file."""

    def __init__(
        self, home: Path, package: Package, folder: Path, *arguments: str, **env: str
    ) -> None:
        self.port, self.log = free_port(), folder / "server.log"
        self.url = f"http://127.0.0.1:{self.port}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bentoml", "serve", "service:SelfHealing",
                 "--port", str(self.port), *arguments],
                stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
                env={**os.environ, "BENTOML_HOME": str(home), "SELFHEAL_MODEL": package.tag,
                     "SELFHEAL_STATE_DIR": str(folder / "state"), "SELFHEAL_WORKERS": "1", **env},
            )  # fmt: skip

    def __enter__(self) -> Typed:
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def addresses(self) -> set[str]:
        """Where it listens."""
        return {
            c.laddr.ip
            for c in psutil.Process(self.process.pid).net_connections("tcp")
            if c.laddr.port == self.port and c.status == psutil.CONN_LISTEN
        }


@pytest.fixture(scope="module")
def lone(home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    """One worker without tokens, as `bentoml serve` starts it."""
    with Typed(home, package, tmp_path_factory.mktemp("lone")) as server:
        yield server


def test_loud(lone: Typed) -> None:
    """Who serves without tokens reads it in the log."""
    assert "NO TOKENS" in lone.log.read_text()


def test_other_sites(lone: Typed) -> None:
    """A browser's page of another site, or of a name that was turned here, gets nothing."""
    with httpx.Client(base_url=lone.url, timeout=30) as browser:
        strange = {"Origin": "http://stranger.example", "Sec-Fetch-Site": "cross-site"}
        for path in (*COMMANDS, "/predict", "/feedback"):
            assert browser.post(path, headers=strange).status_code == 403, path
        assert browser.get("/status", headers={"Host": "stranger.example"}).status_code == 403
        own = {"Origin": lone.url, "Sec-Fetch-Site": "same-origin"}
        assert browser.post("/resume", headers=own).status_code == 200


@pytest.mark.parametrize("host", [ALL_ADDRESSES, pytest.param("::", marks=pytest.mark.slow)])
def test_refuses_beyond_loopback(home: Path, package: Package, tmp_path: Path, host: str) -> None:
    """Without tokens `bentoml serve` on all addresses ends with the reason before it listens."""
    assert Typed(home, package, tmp_path, "--host", host).process.wait(60) == 1
    said = (tmp_path / "server.log").read_text()
    assert f"will not listen on {host}: there are no tokens" in said
    assert "Traceback" not in said
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_listens_to_this_machine(lone: Typed) -> None:
    """By itself it listens to this machine alone."""
    assert lone.addresses() == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [{"SELFHEAL_OPEN_TO_ALL": "true"}, {"SELFHEAL_OPERATE_TOKENS": f"anna={OPERATE}"}],
    ids=["told to", "tokens"],
)
def test_listens_to_all(home: Path, package: Package, tmp_path: Path, env: dict[str, str]) -> None:
    """With tokens, or told to, it listens to all."""
    with Typed(home, package, tmp_path, **env) as server:
        assert server.addresses() == {ALL_ADDRESSES}


# -- bounds ---------------------------------------------------------------------------------------


def raw(server: ServedService, text: str) -> socket.socket:
    """A connection that has sent this much."""
    made = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    made.sendall(text.encode())
    return made


def head(path: str, *headers: str, token: str = ALL) -> str:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}",
             "Content-Type: application/json", *headers]  # fmt: skip
    return "\r\n".join(lines) + "\r\n\r\n"


def status_of(connection: socket.socket) -> int:
    """Of the answer that comes."""
    with connection, connection.makefile("rb") as file:
        return int(file.readline().split()[1])


def assert_serves(server: ServedService) -> float:
    """A prediction is answered; the slowest of ten by connections of their own, in seconds."""
    slowest = 0.0
    for _ in range(10):
        start = time.monotonic()
        with http(server, ALL) as once:
            assert once.post("/predict", json={"rows": [ROW]}).status_code == 200
        slowest = max(slowest, time.monotonic() - start)
    return slowest


@pytest.mark.faults
@pytest.mark.parametrize("path", ["/predict", "/feedback", "/rollback", "/nowhere"])
def test_large_bodies(server: ServedService, path: str, record_fault: Callable[..., None]) -> None:
    """A body over the limit is refused with 413: at its head where it says how large it is, else
    at the piece that goes over. A client that sends all the same gets to read so."""
    announced = raw(server, head(path, "Content-Length: 100000000"))
    assert status_of(announced) == 413
    with http(server, ALL) as client:
        large = client.post(path, content=b"a" * (MEGABYTES * 1_000_000 + 1))
        assert (large.status_code, large.json()["detail"][0]["type"]) == (413, "too_large")
        pieces = client.post(path, content=(b"a" * 65536 for _ in range(1600)))
        assert pieces.status_code == 413
    statuses = {"announced": 413, "sent_whole": large.status_code, "in_pieces": pieces.status_code}
    record_fault(f"100 MB to {path}", **statuses, others_slowest_s=assert_serves(server))


def test_large_body_of_a_stranger(server: ServedService) -> None:
    """Whoever has no token gets nothing read at all."""
    stranger = raw(server, head("/predict", "Content-Length: 100000000", token="x" * 20))
    assert status_of(stranger) == 401


@pytest.mark.faults
def test_strange_bodies(server: ServedService, record_fault: Callable[..., None]) -> None:
    """Deep JSON and a million rows are refused, wherever they are sent."""
    seen: Counter[int] = Counter()
    deep = [b"[" * 100_000, b'{"rows":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b'{"items":' * 50_000 + b"1" + b"}" * 50_000]  # fmt: skip
    with http(server, ALL) as client:
        for path in ("/predict", "/feedback", "/rollback", "/forget"):
            for body in deep:
                response = client.post(
                    path, content=body, headers={"Content-Type": "application/json"}
                )
                assert 400 <= response.status_code < 500, (path, response.text[:200])
                seen[response.status_code] += 1
        rows = client.post("/predict", json={"rows": [[1]] * 1_000_000}).status_code
        items = client.post("/feedback", json={"items": [1] * 1_000_000}).status_code
    record_fault(
        "deep JSON, a million rows", deep=dict(seen), rows=rows, items=items,
        others_slowest_s=assert_serves(server),
    )  # fmt: skip
    assert (rows, items) == (413, 413)


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_bad_forms_and_types(server: ServedService, path: str) -> None:
    """A form that cannot be read is a 415 that says what to send, and a Content-Type that is not
    ASCII costs nobody the answer or the connection."""
    with http(server, ALL) as client:
        for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
            bad = client.post(path, content=b"--y\r\n", headers={"Content-Type": kind})
            assert bad.status_code == 415
            assert "send application/json" in bad.json()["error"]
        odd: Any = {"Content-Type": b"application/json; x=\xe9"}
        for _ in range(2):
            assert client.post(path, content=b"{}", headers=odd).status_code == 400
    assert "UnicodeDecodeError" not in server.log.read_text()


@pytest.mark.faults
def test_slow_clients(server: ServedService, record_fault: Callable[..., None]) -> None:
    """A head or a body that does not come is given up with 408; others are served meanwhile."""
    body = head("/predict", "Content-Length: 1000")
    slow = [raw(server, text) for text in (body, body + "{", body[:40], "P") for _ in range(5)]
    start = time.monotonic()
    slowest = assert_serves(server)
    statuses = {status_of(connection) for connection in slow}
    seconds = time.monotonic() - start
    record_fault("20 slow clients", statuses=sorted(statuses), given_up_after_s=seconds,
                 others_slowest_s=slowest)  # fmt: skip
    assert statuses == {408}
    assert slowest < SECONDS
    assert seconds < SECONDS + 10


@pytest.mark.faults
def test_trickling_client(server: ServedService) -> None:
    """A byte every now and then does not put the end off."""
    connection, start = raw(server, head("/predict", "Content-Length: 1000")), time.monotonic()
    connection.settimeout(0.2)
    said = b""
    while not said:
        assert time.monotonic() - start < SECONDS + 10
        connection.sendall(b" ")
        try:
            said = connection.recv(100)
        except TimeoutError:
            continue
    connection.close()
    assert said.startswith(b"HTTP/1.1 408")


@pytest.mark.faults
def test_client_that_does_not_read(server: ServedService) -> None:
    """Who asks on and takes no answer is cut off, though answers wait; others are served."""
    body = json.dumps({"rows": [ROW] * 10_000})
    request = head("/predict", f"Content-Length: {len(body)}") + body
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(SECONDS + 10)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(request.encode() * 30)  # more than both systems hold for us
    assert_serves(server)


@pytest.mark.faults
def test_idle_connections(server: ServedService, record_fault: Callable[..., None]) -> None:
    """While a thousand connections say nothing others are served; they are closed in time."""
    with ExitStack() as stack:
        idle = [stack.enter_context(raw(server, "")) for _ in range(1000)]
        slowest = assert_serves(server)
        assert slowest < SECONDS
        deadline = time.monotonic() + SECONDS + 10
        for connection in idle:
            connection.settimeout(max(deadline - time.monotonic(), 0.1))
            while connection.recv(1000):
                pass
    assert_serves(server)
    record_fault("1,000 idle connections", closed=len(idle), others_slowest_s=slowest)


def test_too_many_labels(server: ServedService, client: Client) -> None:
    """A source over its labels a minute gets 429 with Retry-After, nothing of the request is kept,
    and other sources go on."""
    ids = client.predict([ROW] * 120).prediction_ids

    def items(source: str, some: list[str]) -> list[FeedbackItem]:
        return [FeedbackItem(prediction_id=i, label=1, source=source) for i in some]

    refused = None
    with http(server, FEEDBACK) as desk:  # one connection meets one worker, which counts by itself
        for part in (ids[:50], ids[50:60]):
            body = {"items": [i.model_dump(exclude_none=True) for i in items("till", part)]}
            refused = desk.post("/feedback", json=body)
    assert refused is not None
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert "source 'desk/till'" in refused.json()["error"]
    assert client.feedback(items("other", ids[50:60])).accepted == 10
    with (
        Client(server.url, token=FEEDBACK, retry_seconds=0) as hasty,
        pytest.raises(ServiceUnavailable, match="429") as busy,
    ):
        hasty.feedback(items("many", [*ids, *ids]))
    assert busy.value.retry_after


# -- signatures -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_unsigned_does_not_serve(home: Path, package: Package, tmp_path: Path) -> None:
    """Snapshots of before the key do not serve, and it is said how they would; once signed they
    do."""
    prepare(Settings(model=package.tag, state_dir=tmp_path / "state"))
    why = "bento-selfheal sign"
    env = {**os.environ, "SELFHEAL_MODEL": package.tag, "SELFHEAL_SIGNING_KEY": KEY,
           "SELFHEAL_STATE_DIR": str(tmp_path / "state"), "BENTOML_HOME": str(home)}  # fmt: skip
    with unready(home, package, tmp_path, why, workers=1, signing_key=KEY) as server:
        done = subprocess.run(
            [*COMMAND, "sign"], capture_output=True, text=True, timeout=60, env=env
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"signed {package.name}-adapter:")
        wait_for(lambda: ready(server), "ready once it is signed")
        with Client(server.url) as client:
            assert client.predict([ROW]).model_version == 1


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_secret_is_told(server: ServedService, client: Client) -> None:
    """After all of the above no token and no key stands in the log, in metrics, in what operators
    read or in an error."""
    with http(server, ALL) as asked:
        told = [asked.get(path).text for path in (*READS, "/docs.json", "/schema.json")]
        told.append(asked.post("/nowhere", content=b"x").text)
    with http(server, "strange-0123456789abcdef") as stranger:
        told.append(stranger.get("/status").text)
    told.append(server.log.read_text())
    secrets = (PREDICT, FEEDBACK, OPERATE, ALL, KEY, "strange-0123456789abcdef")
    assert [s for s in secrets for text in told if s in text] == []
    assert json.loads(told[0])["state"]
