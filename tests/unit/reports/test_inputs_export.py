"""Inputs with their labels, written out to retrain from: files as they came, and one table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from networks import packaged_stripes

from bento_selfheal.cli import main as entry
from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord, RawInput
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.errors import SettingsError
from bento_selfheal.packaging.package import Package
from bento_selfheal.reports import inputs_export
from bento_selfheal.reports.doctor import Grade, examine
from bento_selfheal.reports.inputs_export import InputsExport, export_inputs
from bento_selfheal.serving.worker import Worker
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.telemetry.spans import Telemetry

FR, DE, UNSEEN = 0.0, 1.0, 2.0
"""Codes of a country, in the order in which the training rows name them."""
HOSTILE = "../../../etc/passwd\n=cmd()"


@pytest.fixture(scope="module")
def network(home: Path) -> Package:
    return packaged_stripes("stripes-to-export")


@pytest.fixture
def settings(network: Package, tmp_path: Path) -> Settings:
    settings = Settings(model=network.tag, state_dir=tmp_path / "state", log_inputs=1)
    prepare(settings)
    return settings


class Asked:
    """Requests that were answered and logged with their inputs."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.signer = store, IdSigner(store.meta("secret") or "")
        self.requests: list[bytes] = []

    def ask(self, *bodies: bytes, kind: str = "image/png", at: float = 1.0,
            facts: float = DE) -> list[str]:  # fmt: skip
        """One request; the ids of its rows."""
        request, token = self.signer.issue(len(bodies))
        features = np.full((len(bodies), 33), facts, np.float32)
        answers = np.full((len(bodies), 3), 1 / 3, np.float32)
        raw = tuple(RawInput(kind, body) for body in bodies)
        self.store.append_predictions([PredictionRecord(request, features, answers, 1, at,
                                                        inputs=raw)])  # fmt: skip
        return [f"{token}.{row}" for row in range(len(bodies))]

    def label(self, prediction_id: str, given: int, **more: Any) -> None:
        found = self.signer.read(prediction_id)
        assert found is not None
        self.store.add_feedback([FeedbackRecord(*found, given, 2.0, **more)])


@pytest.fixture
def asked(settings: Settings) -> Iterator[Asked]:
    store = open_store(settings)
    yield Asked(store)
    store.close()


def table(done: InputsExport) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(done.table).to_pylist()
    return found


def test_files_and_table(asked: Asked, settings: Settings, tmp_path: Path) -> None:
    """Each labelled input is a file with its bytes; the table has its newest label as the class,
    its facts, id, time and source. What has no label is left out."""
    ids = asked.ask(b"\0one", b"two", b"no label", facts=FR)
    asked.label(ids[0], 2)
    asked.label(ids[1], 0, source="desk")
    asked.label(ids[1], 1, source=HOSTILE, corrects=True)
    [of_json] = asked.ask(b"{}", kind="application/json", at=7.5, facts=UNSEEN)
    asked.label(of_json, 0)
    done = export_inputs(settings, tmp_path / "new" / "out")
    rows = table(done)
    assert (done.inputs, done.quarantined) == (3, 0)
    folder = done.table.parent
    assert [(folder / row["file_name"]).read_bytes() for row in rows] == [b"\0one", b"two", b"{}"]
    assert [Path(row["file_name"]).suffix for row in rows] == [".png", ".png", ".json"]
    assert len(list((folder / "inputs").iterdir())) == 3
    assert sorted(p.name for p in folder.iterdir()) == ["inputs", "metadata.parquet"]
    assert [{k: v for k, v in row.items() if k != "file_name"} for row in rows] == [
        {"label": "none", "prediction_id": ids[0], "time": datetime.fromtimestamp(1, UTC),
         "source": None, "country": "FR"},
        {"label": "down", "prediction_id": ids[1], "time": datetime.fromtimestamp(1, UTC),
         "source": HOSTILE, "country": "FR"},
        {"label": "across", "prediction_id": of_json, "time": datetime.fromtimestamp(7.5, UTC),
         "source": None, "country": None},
    ]  # fmt: skip


def test_pages(asked: Asked, settings: Settings, tmp_path: Path,
               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Whatever the pages, every input comes once, and the time from a start to an end counts."""
    monkeypatch.setattr(inputs_export, "PAGE", 3)
    for n in range(20):
        for i, one in enumerate(asked.ask(b"%d" % n, b"x", at=float(n))):
            if i == 0 or n % 4 == 0:
                asked.label(one, n % 3)
    everything = export_inputs(settings, tmp_path / "a")
    assert [row["label"] for row in table(everything)][:4] == ["across", "across", "down", "none"]
    assert everything.inputs == 25
    part = export_inputs(settings, tmp_path / "b", 5.0, 8.0)
    assert [row["time"].timestamp() for row in table(part)] == [5.0, 6.0, 7.0]


def test_a_quarantined_source_teaches_nothing(
    asked: Asked, settings: Settings, tmp_path: Path
) -> None:
    """Labels of a source that was refused are left out, and counted."""
    ids = asked.ask(b"a", b"b", b"c")
    for one, source in zip(ids, ["liar", "desk", "liar"], strict=True):
        asked.label(one, 0, source=source)
    asked.label(ids[1], 1, source="liar", corrects=True)
    asked.label(ids[2], 1, source="desk", corrects=True)
    token = asked.store.acquire_lease("runner", 60)
    assert token is not None
    said = {"liar": {"quarantined": "it lies"}, "desk": {"quarantined": None}}
    status = {**asked.store.status(), "sources": said}
    asked.store.commit(token, StepRecord(b"", status, after_promotion=1))
    done = export_inputs(settings, tmp_path / "out")
    assert (done.inputs, done.quarantined) == (1, 2)
    assert [(row["source"], row["label"]) for row in table(done)] == [("desk", "down")]


@pytest.mark.parametrize("retire", [
    lambda store: store.retire_inputs(1e12, 0, 2),
    lambda store: store.retire_predictions(1e12, 0, 2),
], ids=["the input", "its prediction"])  # fmt: skip
def test_retention_meanwhile(
    asked: Asked, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    retire: Callable[[SqlStore], int],
) -> None:  # fmt: skip
    """What retention takes while the rows are written is left out, and the others are written."""
    for n in range(4):
        asked.label(asked.ask(b"%d" % n)[0], 0)
    real, once = SqlStore.labelled_inputs, [True]

    def slow(self: SqlStore, *args: Any) -> Any:
        page = real(self, *args)
        if once:
            once.pop()
            assert retire(asked.store) == 2
        return page

    monkeypatch.setattr(SqlStore, "labelled_inputs", slow)
    done = export_inputs(settings, tmp_path / "out")
    files = [(done.table.parent / row["file_name"]).read_bytes() for row in table(done)]
    assert files == [b"2", b"3"]
    assert len(list((tmp_path / "out" / "inputs").iterdir())) == 2


def test_a_folder_with_something_in_it(settings: Settings, tmp_path: Path) -> None:
    """It is refused, and left as it is: nothing is overwritten, and no rows mix."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metadata.parquet").write_text("mine")
    with pytest.raises(SettingsError, match="not empty"):
        export_inputs(settings, tmp_path / "out")
    assert (tmp_path / "out" / "metadata.parquet").read_text() == "mine"


def test_command(
    asked: Asked, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`bento-selfheal export-inputs` says what it wrote, in words or as JSON, and what to set where
    nothing was kept."""
    monkeypatch.setenv("SELFHEAL_MODEL", settings.model)
    monkeypatch.setenv("SELFHEAL_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("COLUMNS", "200")

    def told(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["bento-selfheal", "export-inputs", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert "SELFHEAL_LOG_INPUTS" in told(str(tmp_path / "none"))
    asked.label(asked.ask(b"a", at=1.0)[0], 0)
    assert "1 labelled input\n" in told(str(tmp_path / "words"))
    assert json.loads(told(str(tmp_path / "json"), "--json")) == {
        "table": str(tmp_path / "json" / "metadata.parquet"), "inputs": 1, "quarantined": 0,
    }  # fmt: skip
    assert json.loads(told(str(tmp_path / "new"), "--json", "--since", "1h"))["inputs"] == 0


def test_a_table_is_told(
    package: Package, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a model of a table the setting has no effect; the worker's log and the doctor say so."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "table", log_inputs=0.5)
    prepare(settings)
    caplog.set_level(logging.WARNING)
    Worker(settings, Telemetry()).stop()
    assert "log_inputs has no effect" in caplog.text
    [finding] = [f for f in examine(settings) if f.what == "inputs"]
    assert (finding.grade, finding.mend) == (Grade.WARN, "unset SELFHEAL_LOG_INPUTS")


def test_the_doctor_says_what_is_kept(asked: Asked, settings: Settings) -> None:
    """How many bytes of inputs the store holds; nothing while there are none."""
    assert not [f for f in examine(settings) if f.what == "inputs"]
    asked.ask(b"x" * 2_000_000)
    [finding] = [f for f in examine(settings) if f.what == "inputs"]
    assert (finding.grade, finding.found) == (Grade.GOOD, "2.0 MB of inputs are kept as they came")
