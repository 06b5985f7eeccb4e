"""The layers: what decides knows no framework, nothing unpickles, and names stand in one file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bento_selfheal

PACKAGE = Path(bento_selfheal.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = ("bentoml", "_bentoml_sdk", "_bentoml_impl", "sqlalchemy", "opentelemetry",
              "fastapi", "starlette")  # fmt: skip


def test_core_imports_no_framework() -> None:
    """`records, rules, fidi, gate` and what they import load no BentoML, SQLAlchemy,
    OpenTelemetry or web framework."""
    code = (
        "import sys\n"
        "from bento_selfheal import rules\n"
        "from bento_selfheal.core import records\n"
        "from bento_selfheal.healing.drift import fidi\n"
        "from bento_selfheal.healing.evidence import gate\n"
        f"print([m for m in sys.modules if m.split('.')[0] in {FRAMEWORKS!r}])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_unpickles() -> None:
    """No file of the package imports a pickler, or calls torch.load, torch.save or eval."""
    picklers = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for name, tree in trees():
        assert not picklers & {module.split(".")[0] for module in imported(tree)}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"torch.load", "torch.save", "eval", "exec"}, name
                assert not any(k.arg == "allow_pickle" for k in node.keywords), name


def docstrings(tree: ast.Module) -> set[int]:
    """Every string that stands for itself: docstrings of modules, classes, functions, fields."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def test_names_in_one_file() -> None:
    """Every span, attribute and metric name is written in telemetry/names.py and nowhere else."""
    name_of = re.compile(r"selfheal[._][a-z]")
    files = {"selfheal.toml", "selfheal.db"}
    found = []
    for file, tree in trees():
        if file == "telemetry/names.py":
            continue
        told = docstrings(tree)
        found += [
            (file, node.lineno, node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in told
            and name_of.match(node.value)
            and node.value not in files
        ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    """Every module begins with a docstring; an empty `__init__.py` needs none."""
    if path.name == "__init__.py" and not path.read_text().strip():
        return
    assert ast.get_docstring(ast.parse(path.read_text()))
