"""The commands around the audit, webhooks and thresholds."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receiver import SECRET, Receiver, is_genuine
from sqlalchemy import text
from typer.testing import CliRunner

from bento_selfheal.cli.main import app
from bento_selfheal.errors import SettingsError
from bento_selfheal.store import SqlStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    """A store with two entries, which the settings name."""
    monkeypatch.setenv("SELFHEAL_STATE_DIR", str(tmp_path))
    store = SqlStore(f"sqlite:///{tmp_path / 'selfheal.db'}")
    store.create()
    store.add_command("pause", by="anna")
    store.add_command("forget", "shop/[red]till", by="berta")
    yield store
    store.close()


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == code, (done.output, done.exception)
    return str(done.output)


def test_audit_list(store: SqlStore) -> None:
    """`audit` and `audit list` show who did what, newest last."""
    shown = call("audit")
    assert shown.index("anna") < shown.index("berta")
    assert "shop/[red]till" in shown
    [entry] = json.loads(call("audit", "list", "--last", "1", "--json"))
    assert (entry["act"], entry["by"], entry["role"]) == ("forget", "berta", "operate")
    assert entry["detail"] == {"argument": "shop/[red]till"}


def test_audit_verify(store: SqlStore) -> None:
    """A whole chain is said to be whole with its head; the first broken entry is named, with exit
    code 1."""
    head = str(store.verify_audit().head)
    assert call("audit", "verify").strip() == f"2 entries whole, head {head}"
    assert json.loads(call("audit", "verify", "--head", head, "--json"))["whole"] is True
    with store._db.engine.begin() as c:
        c.execute(text("update audit set by = 'carl' where seq = 2"))
    assert "broken at entry 2" in call("audit", "verify", code=1)
    found = json.loads(call("audit", "verify", "--json", code=1))
    assert (found["whole"], found["broken"]) == (False, 2)
    assert "SEQ:HASH" in call("audit", "verify", "--head", "2:abc", code=2)


def webhooks(monkeypatch: pytest.MonkeyPatch, *hooks: dict[str, Any]) -> None:
    monkeypatch.setenv("SELFHEAL_WEBHOOKS", json.dumps(hooks))


def test_webhook_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """`webhook test` sends a signed event to each webhook, or to one, and shows what came back;
    exit code 1 where one has not taken it."""
    with Receiver().listening() as receiver:
        desk = {"name": "desk", "url": receiver.url, "kinds": ["heal"], "secret": SECRET}
        webhooks(monkeypatch, desk, {**desk, "name": "team", "template": "slack", "secret": ""})
        shown = call("webhook", "test", "desk")
        assert shown.strip() == f"desk (json, 127.0.0.1:{receiver.port}): HTTP 204"
        [one] = receiver.got
        assert is_genuine(one)
        assert one.body["type"] == "test"
        receiver.answers = [200, 403]
        tried = json.loads(call("webhook", "test", "--json", code=1))
    assert [(t["name"], t["status"], t["taken"]) for t in tried] == [
        ("desk", 200, True), ("team", 403, False),
    ]  # fmt: skip
    assert tried[0]["answer"] == "received by the test\\x1b[2J"
    assert "no answer: ConnectError" in call("webhook", "test", "desk", code=1)
    with pytest.raises(SettingsError, match="no 'other'; there are desk, team"):
        CliRunner().invoke(app, ["webhook", "test", "other"], catch_exceptions=False)
    webhooks(monkeypatch)
    with pytest.raises(SettingsError, match="webhooks: none is set"):
        CliRunner().invoke(app, ["webhook", "test"], catch_exceptions=False)


def test_acts_on_the_host(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that is tried is in the audit, with who did it and what came back."""
    with Receiver().listening() as receiver:
        webhooks(monkeypatch, {"name": "desk", "url": receiver.url, "kinds": ["heal"]})
        call("webhook", "test")
    entry = json.loads(call("audit", "list", "--last", "1", "--json"))[0]
    assert (entry["act"], entry["role"], entry["by"]) == ("webhook_test", "host", getpass.getuser())
    assert entry["detail"] == {"replies": [{"name": "desk", "status": 204, "taken": True}]}
    assert json.loads(call("audit", "verify", "--json"))["whole"] is True


def test_an_audit_that_was_changed(store: SqlStore) -> None:
    """What somebody wrote into it by hand is shown as it is, and found, where no entry can be,
    too."""
    with store._db.engine.begin() as c:
        c.execute(text("update audit set detail = '{', time = 'never' where seq = 2"))
        c.execute(text("insert into audit select 0, time, act, by, role, detail, hash from audit "
                       "where seq = 1"))  # fmt: skip
    assert "never" in call("audit")
    assert [e["detail"] for e in json.loads(call("audit", "list", "--json"))][-1] == "{"
    assert "broken at entry 0: the entry was put in" in call("audit", "verify", code=1)


GOOD = {"name": "desk", "url": "https://hooks.example/very-secret-path", "kinds": ["heal"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://x/very-secret-path"}, "webhooks.0.url: a URL of http or https"),
        ({"url": "very-secret-path"}, "webhooks.0.url: not a URL"),
        ({"kinds": ["heals"]}, "webhooks.0.kinds: no event is of the kind 'heals'"),
        ({"kinds": []}, "webhooks.0.kinds"),
        ({"hours": 0}, "webhooks.0.hours"),
        ({"template": "teams"}, "webhooks.0.template"),
        ({"secret": "very-secret-path"}, "webhooks.0: secret: whsec_ and the base64 of 24"),
        ({"secret": "whsec_dmVyeS1zZWNyZXQtcGF0aA=="}, "secret: whsec_ and the base64 of 24"),
        ({"template": "slack", "secret": SECRET}, "secret: Slack checks no signature"),
        ({"template": "pagerduty"}, "secret: the integration key"),
        ({"retries": 3}, "webhooks.0.retries"),
    ],
)
def test_bad_webhooks(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str) -> None:
    """A webhook that cannot work is refused by field; no message shows an address or a secret."""
    webhooks(monkeypatch, {**GOOD, **change})
    with pytest.raises(SettingsError, match="webhooks") as refused:
        CliRunner().invoke(app, ["webhook", "test"], catch_exceptions=False)
    assert said in str(refused.value)
    assert "very-secret-path" not in str(refused.value)
    assert "dmVyeS1" not in str(refused.value)


@pytest.mark.parametrize("value", ['"https://h/very-secret-path"', "very-secret-path"])
def test_no_list_of_webhooks(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What is no list of webhooks is refused, and not quoted."""
    monkeypatch.setenv("SELFHEAL_WEBHOOKS", value)
    with pytest.raises(SettingsError, match="webhooks") as refused:
        CliRunner().invoke(app, ["webhook", "test"], catch_exceptions=False)
    assert "very-secret-path" not in str(refused.value)
