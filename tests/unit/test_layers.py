"""The layers: what decides knows no framework, nothing unpickles, and names stand in one file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structure

import bento_selfheal

PACKAGE = Path(bento_selfheal.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
REPOSITORY = Path(__file__).parents[2]
FRAMEWORKS = ("bentoml", "_bentoml_sdk", "_bentoml_impl", "sqlalchemy", "alembic",
              "opentelemetry", "prometheus_client", "fastapi", "starlette", "httpx")  # fmt: skip

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "internals": set(),
    "core": {"errors"},
    "config": {"core", "errors"},
    "experts": set(),
    "standardize": set(),
    "model": {"core", "experts", "standardize"},
    "inputs": {"core", "errors", "model", "standardize"},
    "wire": {"core"},
    "labelling": {"core", "errors", "wire"},
    "embedding": {"core", "errors", "model", "wire"},
    "estimators": {"embedding", "errors", "inputs", "model"},
    "client": {"core", "errors", "wire"},
    "rules": {"core", "errors", "inputs"},
    "segments": {"config", "errors", "inputs", "rules"},
    "telemetry": {"config", "core", "internals"},
    "scoring": {"config", "core", "model"},
    "packaging.package": {
        "core", "embedding", "errors", "estimators", "inputs", "model", "rules", "scoring",
        "segments", "standardize",
    },
    "packaging.experts": {"core", "errors", "experts", "packaging.package"},
    "healing": {
        "config", "core", "errors", "experts", "inputs", "model", "packaging.experts",
        "packaging.package", "rules", "scoring", "segments", "standardize", "telemetry",
    },
    "store": {"core", "errors"},
    "feeds": {"config", "core", "errors", "labelling", "store"},
    "webhooks": {"config", "core", "errors", "store", "wire"},
    "packaging": {
        "config", "core", "embedding", "errors", "estimators", "experts", "inputs", "internals",
        "model", "packaging.experts", "packaging.package", "rules", "scoring", "standardize",
    },
    "image": {"config", "internals"},
    "dashboard": set(),
    "deployment": {
        "config", "core", "errors", "healing", "image", "inputs", "packaging", "packaging.package",
        "segments", "store", "telemetry",
    },
    "candidates": {
        "config", "core", "deployment", "errors", "packaging", "packaging.package", "scoring",
        "store",
    },
    "serving": {
        "candidates", "config", "core", "dashboard", "deployment", "embedding", "errors",
        "estimators", "image", "inputs", "internals", "labelling", "model", "packaging",
        "packaging.package", "scoring", "store", "telemetry", "wire",
    },
    "runner": {
        "config", "core", "deployment", "errors", "feeds", "healing", "inputs", "packaging",
        "packaging.package", "store", "telemetry", "webhooks",
    },
    "service": {"config", "runner", "serving", "telemetry"},
    "default_service": {"config", "image", "service"},
    "simulation": {
        "client", "config", "core", "deployment", "errors", "healing", "inputs", "model",
        "packaging", "packaging.package", "rules", "scoring", "store", "telemetry", "wire",
    },
    "testing": {"client", "simulation"},
    "reports": {
        "config", "core", "deployment", "errors", "inputs", "packaging", "packaging.package",
        "scoring", "segments", "serving", "simulation", "store", "telemetry",
    },
    "cli": {
        "client", "config", "core", "deployment", "errors", "inputs", "labelling", "packaging",
        "packaging.package", "reports", "simulation", "store", "webhooks",
    },
    "__init__": {
        "client", "config", "embedding", "model", "packaging", "packaging.package", "rules", "wire",
    },
}  # fmt: skip
"""Which layer imports which, lowest first; imports for type checking and in functions included.

An entry is a module or a folder below `bento_selfheal`. `tools/structure.py` reads this table too.
"""


def test_layers_import_what_the_table_says() -> None:
    """The imports between layers are the table's, no more and no fewer, and none goes up."""
    modules = structure.read_modules(REPOSITORY)
    found = structure.layer_imports(modules, LAYERS)
    assert {layer: set(imports) for layer, imports in found.items()} == LAYERS
    order = list(LAYERS)
    assert [
        (layer, imported)
        for layer, imports in LAYERS.items()
        for imported in imports
        if order.index(imported) > order.index(layer)
    ] == []


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    code += "\nimport sys\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_healing_loads_no_framework() -> None:
    """All of `healing` together loads no BentoML, SQLAlchemy, HTTP or web framework; of
    OpenTelemetry the API alone."""
    names = [name for name in structure.read_modules(REPOSITORY) if name.startswith("healing")]
    loaded = loaded_by("\n".join(f"import bento_selfheal.{name}" for name in names))
    assert [m for m in loaded if m.split(".")[0] in FRAMEWORKS and not opentelemetry_api(m)] == []


def opentelemetry_api(module: str) -> bool:
    """Whether a module is of the OpenTelemetry API, which does nothing without an SDK."""
    parts = module.split(".")
    return parts[0] == "opentelemetry" and parts[1:2] not in (["sdk"], ["exporter"])


def test_a_worker_loads_no_healing() -> None:
    """A predict worker answers without the code that heals."""
    loaded = loaded_by("import bento_selfheal.serving.worker")
    assert [m for m in loaded if m.startswith("bento_selfheal.healing")] == []


def test_a_worker_loads_no_estimators_and_no_tables() -> None:
    """Libraries of estimators are loaded where a package has one, and pyarrow by no worker."""
    loaded = loaded_by("import bento_selfheal.serving.worker")
    assert not {"xgboost", "lightgbm", "onnxruntime", "skl2onnx", "sklearn", "pyarrow"} & loaded


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
    """Every span, attribute and metric name is written in telemetry/names.py, or in listed.py for
    what a status lists, and nowhere else."""
    name_of = re.compile(r"selfheal[._][a-z]")
    files = {"selfheal.toml", "selfheal.db"}
    found = []
    for file, tree in trees():
        if file in ("telemetry/names.py", "telemetry/listed.py"):
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
