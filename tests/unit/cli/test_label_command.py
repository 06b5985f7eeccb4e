"""`bento-selfheal label`: a file in parts, each row accounted for, and rows not kept in a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from bento_selfheal.cli import main as entry
from bento_selfheal.cli.labels import sending
from bento_selfheal.client import Client
from bento_selfheal.errors import InvalidInput, ServiceUnavailable
from bento_selfheal.wire.messages import RejectedRow, TableCounts


class Service:
    """Keeps labels by key as the service does, up to a number of rows in one request."""

    def __init__(self, most: int = 10_000, breaks_after: int = 10**9) -> None:
        self.kept: dict[str, Any] = {}
        self.sources: set[str | None] = set()
        self.requests = 0
        self._most = most
        self._breaks_after = breaks_after

    def label(self, table: pa.Table, *, keep_good: bool) -> TableCounts:
        if len(table) > self._most:
            raise InvalidInput(("items",), "over the limit", "too_many")
        if self.requests >= self._breaks_after:
            raise ServiceUnavailable("away")
        self.requests += 1
        counts = {"accepted": 0, "already_known": 0, "in_conflict": 0}
        rejected, conflicts = [], []
        for i, row in enumerate(table.to_pylist()):
            label = str(row["label"])
            kept = self.kept.get(row["key"], label)
            self.sources.add(row.get("source"))
            if label not in ("0", "1"):
                rejected.append(RejectedRow(item=i, reason=f"label: {label!r} is not a class"))
            elif kept != label and not row.get("corrects"):
                counts["in_conflict"] += 1
                conflicts.append({"item": i, "kept": kept})
            else:
                known = row["key"] in self.kept and kept == label
                counts["already_known" if known else "accepted"] += 1
                self.kept[row["key"]] = label
        return TableCounts(
            **counts, unknown=0, unmatched=0, unknown_ids=[], conflicts=conflicts, rejected=rejected
        )


def run(
    monkeypatch: pytest.MonkeyPatch, service: Service, file: Path, *more: str
) -> tuple[int, list[str]]:
    """The exit code, with what is asked for on the command line."""
    monkeypatch.setattr(
        Client, "label", lambda _, table, keep_good: service.label(table, keep_good=keep_good)
    )
    words = ["label", str(file), "--key", "tx", "--label", "fraud", *more]
    monkeypatch.setattr("sys.argv", ["bento-selfheal", *words])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return int(ended.value.code or 0), words


def write(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    path.write_text("\n".join(["tx,fraud,desk", *(",".join(map(str, row)) for row in rows)]))
    return path


def test_every_row_is_accounted_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accepted, known, conflicting and rejected rows are told apart over parts and halved
    requests; those that were not kept are in a file with their lines, and the exit code is 1."""
    monkeypatch.setattr(sending, "PART_ROWS", 4)
    rows: list[tuple[Any, ...]] = [(f"t{n}", n % 2, "a") for n in range(9)]
    rows[2] = ("t2", 7, "a")
    rows[5] = ("t5", 1)
    file = write(tmp_path / "labels.csv", [*rows, ("t0", 1, "b"), ("t1", 1, "b")])
    service = Service(most=3)
    code, _ = run(monkeypatch, service, file, "--json", "--source-column", "desk")
    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert {name: found[name] for name in ("rows", *sending.COUNTED, "rejected")} == {
        "rows": 11, "accepted": 7, "already_known": 1, "unknown": 0, "unmatched": 0,
        "waiting": 0, "in_conflict": 1, "rejected": 2,
    }  # fmt: skip
    with (tmp_path / "labels.csv.rejected.csv").open(newline="") as written:
        told = [(int(row["line"]), row["key"]) for row in csv.DictReader(written)]
    assert told == [(4, "t2"), (7, ""), (11, "t0")]
    assert service.sources == {"a", "b"}


def test_a_run_that_broke_off_is_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that goes away in the middle is told with the line; the same command again sends
    all, and counts once. A file of rejects of before does not stay."""
    monkeypatch.setattr(sending, "PART_ROWS", 10)
    file = write(tmp_path / "labels.csv", [(f"t{n}", n % 2, "a") for n in range(30)])
    (tmp_path / "labels.csv.rejected.csv").write_text("of an earlier run")
    service = Service(breaks_after=2)
    assert run(monkeypatch, service, file, "--json")[0] == 1
    broken = json.loads(capsys.readouterr().out)
    assert (broken["accepted"], broken["line"], broken["error"]) == (20, 21, "away")
    again = Service()
    again.kept = service.kept
    assert run(monkeypatch, again, file, "--json", "--source", "night")[0] == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["accepted"], whole["already_known"]) == (10, 20)
    assert again.sources == {"night"}
    assert not (tmp_path / "labels.csv.rejected.csv").exists()


def test_parquet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Parquet file is sent as a CSV file is."""
    pa.parquet.write_table(pa.table({"tx": ["a", "b"], "fraud": [1, 0]}), tmp_path / "labels.pq")
    assert run(monkeypatch, Service(), tmp_path / "labels.pq", "--json", "--corrects")[0] == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--time", "when"], "column 'when' is not there"),
        (["--source", "a", "--source-column", "desk"], "give one of them"),
    ],
)
def test_wrong_columns(
    more: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A column that is not there, or a source given twice, ends at once with code 2."""
    file = write(tmp_path / "labels.csv", [("a", 1, "b")])
    assert run(monkeypatch, Service(), file, *more)[0] == 2
    assert said in capsys.readouterr().err


def test_one_row_is_no_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed says row of one, and rows of more."""
    for rows, said in ((1, "1 row: 1 accepted"), (1200, "1,200 rows: 1,200 accepted")):
        file = write(tmp_path / "labels.csv", [(f"t{n}", n % 2, "a") for n in range(rows)])
        assert run(monkeypatch, Service(), file)[0] == 0
        assert capsys.readouterr().out.startswith(said)


def test_help_is_set_anew_for_the_terminal() -> None:
    """Paragraphs of the help are not cut where the lines of the code end."""
    shown = CliRunner().invoke(entry.app, ["label", "--help"], env={"COLUMNS": "160"}).output
    assert "with their line and the reason, and the exit code is then 1." in shown
