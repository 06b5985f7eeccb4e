"""The structure script: each kind of violation turns `make structure` red."""

from __future__ import annotations

from pathlib import Path

import pytest
import structure

TABLE = 'LAYERS: dict[str, set[str]] = {"core": set(), "store": {"core"}, "__init__": set()}\n'
CLEAN = {
    "tests/unit/test_layers.py": TABLE,
    "bento_selfheal/__init__.py": "",
    "bento_selfheal/core/__init__.py": "",
    "bento_selfheal/core/records.py": '"""Records."""\n',
    "bento_selfheal/store/__init__.py": "",
    "bento_selfheal/store/logs.py": '"""Logs."""\nfrom bento_selfheal.core import records\n',
}


def write(folder: Path, changed: dict[str, str] | None = None) -> Path:
    """A small tree of the package with some modules changed, and with another table of layers."""
    changed = dict(changed or {})
    table = changed.pop("table", TABLE)
    files = CLEAN | {f"bento_selfheal/{name}.py": text for name, text in changed.items()}
    files["tests/unit/test_layers.py"] = table
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def function(name: str, lines: int, docstring: str = '    """What it does."""\n') -> str:
    """A function of so many lines, its docstring not counted."""
    return f"def {name}():\n{docstring}" + "    pass\n" * (lines - 1)


def test_a_clean_tree_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tree within every limit exits with 0, and every figure is printed with its limit."""
    assert structure.main(write(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert printed.count("ok  ") == len(structure.check(tmp_path))
    assert "lines in a module: 2 (limit: at most 300)" in printed


MODULE = '"""A module."""\n'
VIOLATIONS = {
    "a cycle": (
        {
            "core/records": MODULE + "from bento_selfheal.core import ids\n",
            "core/ids": MODULE + "def f():\n    '''F.'''\n    from .records import x\n",
        },
        "import cycles: 1",
        "core/ids.py:4 core.ids imports core.records",
    ),
    "a cycle for type checking": (
        {
            "core/records": MODULE + "from bento_selfheal.core import ids\n",
            "core/ids": MODULE + "if TYPE_CHECKING:\n    from bento_selfheal.core import records\n",
        },
        "import cycles: 1",
        "core/ids.py:3",
    ),
    "an import upwards": (
        {
            "core/records": MODULE + "import bento_selfheal.store.codec\n",
            "store/codec": MODULE,
        },
        "layer imports",
        "core/records.py:2 core imports store, a higher layer",
    ),
    "an import the table does not list": (
        {"table": TABLE.replace('{"core"}', "set()")},
        "layer imports",
        "store/logs.py:2 store imports core, which LAYERS does not allow",
    ),
    "an entry that is not imported": (
        {"store/logs": MODULE},
        "layer imports",
        "store no longer imports core",
    ),
    "a layer that the table does not know": (
        {"fresh/words": MODULE},
        "layer imports",
        "bento_selfheal/fresh: not in the table",
    ),
    "a layer that is gone": (
        {"table": TABLE.replace('"__init__"', '"wire": set(), "__init__"')},
        "layer imports",
        "wire has no module",
    ),
    "an __init__ that holds something": (
        {"core/__init__": MODULE},
        "__init__.py that should be empty",
        "core/__init__.py:1",
    ),
    "a full folder": (
        {f"core/part_{i}": MODULE for i in range(12)},
        "modules in a folder: 13",
        "bento_selfheal/core: 13 modules",
    ),
    "a long module": (
        {"core/records": MODULE + "x = 1\n" * 300},
        "lines in a module: 301",
        "core/records.py:301 301 lines",
    ),
    "a class with many attributes": (
        {
            "core/records": MODULE
            + "class Big:\n    '''Big.'''\n"
            + "".join(f"    field_{i}: int\n" for i in range(8))
            + "    def fill(self):\n        '''Fill.'''\n"
            + "".join(f"        self.other_{i} = 0\n" for i in range(7))
            + "        self.field_0, self.last = 1, 2\n"
        },
        "attributes of a class: 16",
        "core/records.py:2 Big: 16",
    ),
    "long functions": (
        {"core/records": MODULE + function("short", 25) + function("long", 26)},
        "functions within 25 lines: 50.0% of 2",
        "long: 26 lines",
    ),
    "a public function without a docstring": (
        {"core/records": MODULE + function("bare", 2, docstring="")},
        "public docstrings",
        "core/records.py:2 bare",
    ),
    "a public method without a docstring": (
        {"core/records": MODULE + "class A:\n    '''A.'''\n    async def go(self): return 1\n"},
        "public docstrings",
        "core/records.py:4 A.go",
    ),
    "a module without a docstring": (
        {"core/records": "x = 1\n"},
        "public docstrings",
        "core/records.py:1 the module",
    ),
}


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_violation_fails(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of violation ends with status 1 and names the figure and the offender, and no
    other figure turns red."""
    changed, figure, offender = VIOLATIONS[kind]
    assert structure.main(write(tmp_path, changed)) == 1
    printed = capsys.readouterr().out
    failed = [line for line in printed.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1
    assert figure in failed[0]
    assert offender in printed


def test_the_pipeline_is_shorter_than_the_others(tmp_path: Path) -> None:
    """`healing/pipeline.py` has a limit of its own: under 250 lines."""
    folder = write(tmp_path, {"healing/pipeline": MODULE + "x = 1\n" * 249})
    assert structure.check_lines(structure.read_modules(folder)).offenders


def test_what_needs_no_docstring(tmp_path: Path) -> None:
    """Private names, dunder methods, nested functions, overloads and setters need none."""
    text = (
        MODULE
        + "def _hidden(): return 1\n"
        + "class _Hidden:\n    def go(self): return 1\n"
        + "class A:\n    '''A.'''\n    def __init__(self): self.x = 1\n"
        + "    @x.setter\n    def x(self, to): return 1\n    @overload\n    def y(self): ...\n"
        + "def outer():\n    '''Outer.'''\n    def inner(): return 1\n"
    )
    folder = write(tmp_path, {"core/records": text})
    assert structure.check_docstrings(structure.read_modules(folder)).offenders == []
