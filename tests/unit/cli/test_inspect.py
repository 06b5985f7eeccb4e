"""`bento-selfheal inspect`: how a file is read, what its columns are, what to leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bento_selfheal.cli import main as entry
from bento_selfheal.inputs.column import Column, Kind

TEXT = ";sky;size;left\n0;fog;1,5;yes\n1;?;2,5;no\n2;clear;3;\n"


def inspect(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["bento-selfheal", "inspect", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return ended.value.code


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file with an index, gaps, decimal commas and a row without a label."""
    (tmp_path / "a.csv").write_text(TEXT)
    return str(tmp_path / "a.csv")


def test_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """It says what was read and why, and gives advice that can be pasted."""
    assert inspect(monkeypatch, file, "--label", "left") == 0
    said = capsys.readouterr().out
    for part in ("separator: semicolon", "decimal mark: comma", "'?' (1)", "33.3%",
                 "no (1), yes (1)", "1 row has no label", "--drop 'Unnamed: 0'"):  # fmt: skip
        assert part in said


def test_json_and_schema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str, tmp_path: Path
) -> None:
    """The same as JSON, and a schema from which the columns can be made again."""
    schema = tmp_path / "schema.json"
    arguments = ("--label", "left", "--drop", "Unnamed: 0", "--json", "--write", str(schema))
    assert inspect(monkeypatch, file, *arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [column["name"] for column in found["columns"]] == ["sky", "size"]
    assert found["label"] == {"name": "left", "classes": {"no": 1, "yes": 1}, "missing": 1}
    columns = [Column.model_validate(column) for column in json.loads(schema.read_text())]
    assert columns == [
        Column(name="sky", kind=Kind.CATEGORY, nullable=True, levels=("fog", "clear")),
        Column(name="size", nullable=True),
    ]


def test_a_label_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """A wrong label ends with 2 and lists the columns."""
    assert inspect(monkeypatch, file, "--label", "right") == 2
    assert "columns: ['Unnamed: 0', 'sky', 'size', 'left']" in capsys.readouterr().err
