"""Measures the structure of the package and fails where it breaks a limit.

    python tools/structure.py [FOLDER]

FOLDER holds ``bento_selfheal/`` and ``tests/unit/test_layers.py``; the repository by default. The
sources are read with `ast` and never imported. Each figure is printed with its limit, and each
offender as ``file:line``; the exit status is 1 when a limit is broken.

How things are counted:

- A function's length runs from its ``def`` line to its last line, without its docstring and its
  decorators. Methods and nested functions count as functions; a stub (``...``) does not.
- A class's attributes are the fields annotated in its body (but `ClassVar`) and every ``self.x``
  that its methods assign.
- Public is what has no leading underscore in its own name or in that of the class it belongs to.
  Nested functions, overloads and property setters need no docstring; nor do dunder methods, whose
  arguments the class's docstring gives.
- Imports include those under ``TYPE_CHECKING`` and those inside functions.
- A module belongs to the longest entry of the layer table that its name starts with.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "bento_selfheal"
LAYER_TABLE = "tests/unit/test_layers.py"
ROOT_LAYER = "__init__"
"""The layer of the package's own `__init__.py`."""

MODULES_PER_FOLDER = 12
GROWING_FOLDERS = {"store/migrations/versions"}
"""Folders that get a module with each change of the schema."""
MODULE_LINES = 300
TIGHTER_MODULES = {"healing/pipeline.py": 249}
CLASS_ATTRIBUTES = 15
FUNCTION_LINES = 25
FUNCTIONS_WITHIN = 0.90
FILLED_INITS = {"", "client", "config", "store"}
"""Packages whose `__init__.py` hands on public names; "" is the package itself."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another, and its line."""

    importer: str
    imported: str
    line: int


@dataclass(frozen=True)
class Module:
    """A module of the package.

    Attributes:
        name: Dotted, without the package's own name; "" for the package itself.
        file: Its path below the package.
        lines: How many lines it has.
        tree: Its syntax tree.
    """

    name: str
    file: str
    lines: int
    tree: ast.Module

    @property
    def init(self) -> bool:
        """Whether it is an `__init__.py`."""
        return self.file.endswith("__init__.py")


@dataclass
class Figure:
    """One figure with its limit, and what breaks it."""

    name: str
    value: str
    limit: str
    offenders: list[str] = field(default_factory=list)
    passes: bool | None = None
    """Whether the limit holds; by default, when there is no offender."""

    @property
    def holds(self) -> bool:
        """Whether the limit holds."""
        return not self.offenders if self.passes is None else self.passes


def read_modules(folder: Path) -> dict[str, Module]:
    """Every module of the package in a folder, by name."""
    root = folder / PACKAGE
    modules = {}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(
            name, relative.as_posix(), len(text.splitlines()), ast.parse(text, str(path))
        )
    return modules


def read_layers(folder: Path) -> dict[str, set[str]]:
    """The table ``LAYERS`` of the layer test, lowest layer first."""
    tree = ast.parse((folder / LAYER_TABLE).read_text(encoding="utf-8"))
    for node in tree.body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "LAYERS"
            and node.value is not None
        ):
            entries = ast.literal_eval(node.value)
            return {layer: set(imports) for layer, imports in entries.items()}
    raise SystemExit(f"{LAYER_TABLE}: LAYERS is not there")


def read_imports(modules: dict[str, Module]) -> list[Import]:
    """Every import of one module of the package by another."""
    return [
        Import(module.name, target, line)
        for module in modules.values()
        for target, line in _imported(module, modules)
        if target != module.name
    ]


def _imported(module: Module, modules: dict[str, Module]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield _module_of(name.removeprefix(PACKAGE).removeprefix("."), modules), node.lineno


def _base(node: ast.ImportFrom, module: Module) -> str:
    """What a `from` import names, in full."""
    if not node.level:
        return node.module or ""
    parts = [PACKAGE, *module.name.split(".")] if module.name else [PACKAGE]
    up = node.level - module.init
    parts = parts[: len(parts) - up]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _module_of(name: str, modules: dict[str, Module]) -> str:
    """The module that holds a dotted name."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def layer_of(name: str, layers: dict[str, set[str]]) -> str:
    """The layer of a module; its top folder where the table has no entry for it."""
    if not name:
        return ROOT_LAYER
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        if (entry := ".".join(parts[:size])) in layers:
            return entry
    return parts[0]


def layer_imports(
    modules: dict[str, Module], layers: dict[str, set[str]]
) -> dict[str, dict[str, Import]]:
    """Which layers each layer imports, with the first import that shows it."""
    found: dict[str, dict[str, Import]] = {layer_of(name, layers): {} for name in modules}
    for one in read_imports(modules):
        importer, imported = layer_of(one.importer, layers), layer_of(one.imported, layers)
        if importer != imported:
            found[importer].setdefault(imported, one)
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            cut = stack.index(node)
            component = sorted(stack[cut:])
            del stack[cut:]
            if len(component) > 1:
                found.append(component)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def check_cycles(modules: dict[str, Module]) -> Figure:
    """No module imports itself through others."""
    imports = read_imports(modules)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for one in imports:
        # Importing a submodule runs its package's `__init__`, which hands names on; that is no
        # dependency of the importer on all that stands there.
        graph[one.importer].add(one.imported)
    offenders = []
    for component in cycles(graph):
        inside = set(component)
        offenders += [
            f"{_place(modules[one.importer], one.line)} {one.importer} imports {one.imported}"
            for one in imports
            if one.importer in inside and one.imported in inside
        ]
    return Figure("import cycles", str(len(cycles(graph))), "0", offenders)


def check_layers(modules: dict[str, Module], layers: dict[str, set[str]]) -> Figure:
    """The imports between layers are those of the table, and none goes up."""
    found = layer_imports(modules, layers)
    order = {layer: place for place, layer in enumerate(layers)}
    offenders = []
    for layer, imports in sorted(found.items()):
        if layer not in layers:
            offenders.append(f"{PACKAGE}/{layer}: not in the table LAYERS")
            continue
        for imported, one in sorted(imports.items()):
            place = f"{_place(modules[one.importer], one.line)} {layer} imports {imported}"
            if order.get(imported, -1) > order[layer]:
                offenders.append(f"{place}, a higher layer")
            elif imported not in layers[layer]:
                offenders.append(f"{place}, which LAYERS does not allow")
        offenders += [
            f"{LAYER_TABLE}: {layer} no longer imports {name}; remove it from LAYERS"
            for name in sorted(layers[layer] - imports.keys())
        ]
    offenders += [
        f"{LAYER_TABLE}: {layer} has no module; remove it from LAYERS"
        for layer in layers
        if layer not in found
    ]
    return Figure("layer imports that differ from LAYERS", str(len(offenders)), "0", offenders)


def check_inits(modules: dict[str, Module]) -> Figure:
    """Only some `__init__.py` hold anything."""
    offenders = [
        f"{PACKAGE}/{module.file}:1"
        for module in modules.values()
        if module.init and module.lines and module.name not in FILLED_INITS
    ]
    return Figure("__init__.py that should be empty", str(len(offenders)), "0", offenders)


def check_folders(modules: dict[str, Module]) -> Figure:
    """Few modules in a folder, `__init__.py` not counted."""
    count: dict[str, int] = {}
    for module in modules.values():
        if not module.init:
            folder = f"{PACKAGE}/{module.file}".rpartition("/")[0]
            if folder.removeprefix(f"{PACKAGE}/") not in GROWING_FOLDERS:
                count[folder] = count.get(folder, 0) + 1
    offenders = [f"{name}: {n} modules" for name, n in count.items() if n > MODULES_PER_FOLDER]
    most = max(count.values(), default=0)
    return Figure("modules in a folder", str(most), f"at most {MODULES_PER_FOLDER}", offenders)


def check_lines(modules: dict[str, Module]) -> Figure:
    """No long module."""
    offenders = []
    for module in modules.values():
        limit = TIGHTER_MODULES.get(module.file, MODULE_LINES)
        if module.lines > limit:
            offenders.append(f"{_place(module, limit + 1)} {module.lines} lines, at most {limit}")
    most = max((module.lines for module in modules.values()), default=0)
    return Figure("lines in a module", str(most), f"at most {MODULE_LINES}", offenders)


def check_classes(modules: dict[str, Module]) -> Figure:
    """No class with many attributes."""
    most, offenders = 0, []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                count = len(attributes(node))
                most = max(most, count)
                if count > CLASS_ATTRIBUTES:
                    offenders.append(f"{_place(module, node.lineno)} {node.name}: {count}")
    return Figure("attributes of a class", str(most), f"at most {CLASS_ATTRIBUTES}", offenders)


def attributes(node: ast.ClassDef) -> set[str]:
    """The fields that a class annotates and the attributes that its methods assign."""
    found = {
        statement.target.id
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and "ClassVar" not in ast.unparse(statement.annotation)
    }
    for method in node.body:
        if isinstance(method, Function):
            found |= {
                one.attr
                for one in ast.walk(method)
                if isinstance(one, ast.Attribute)
                and isinstance(one.ctx, ast.Store)
                and isinstance(one.value, ast.Name)
                and one.value.id == "self"
            }
    return found


def check_functions(modules: dict[str, Module]) -> Figure:
    """Most functions fit a screen."""
    lengths = [
        (function_length(node), module, node)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, Function) and not _stub(node)
    ]
    over = [entry for entry in lengths if entry[0] > FUNCTION_LINES]
    share = 1 - len(over) / max(len(lengths), 1)
    offenders = [
        f"{_place(module, node.lineno)} {node.name}: {length} lines"
        for length, module, node in sorted(over, key=lambda entry: -entry[0])
    ]
    return Figure(
        f"functions within {FUNCTION_LINES} lines",
        f"{share:.1%} of {len(lengths)}",
        f"at least {FUNCTIONS_WITHIN:.0%}",
        offenders,
        passes=share >= FUNCTIONS_WITHIN,
    )


def function_length(node: Function) -> int:
    """Lines of a function from `def` to its end, without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def _stub(node: Function) -> bool:
    """Whether a function does nothing, as the methods of a protocol."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return all(
        isinstance(one, ast.Expr)
        and isinstance(one.value, ast.Constant)
        and one.value.value is Ellipsis
        for one in body
    )


def check_docstrings(modules: dict[str, Module]) -> Figure:
    """Everything public says what it is."""
    total, offenders = 0, []
    for module in modules.values():
        for name, node in public(module):
            total += 1
            if ast.get_docstring(node) is None:
                line = getattr(node, "lineno", 1)
                offenders.append(f"{_place(module, line)} {name}")
    share = 1 - len(offenders) / max(total, 1)
    return Figure("public docstrings", f"{share:.1%} of {total}", "100%", offenders)


def public(module: Module) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """What of a module needs a docstring, with its name."""
    if not module.init or module.lines:
        yield "the module", module.tree
    for node in _definitions(module.tree.body):
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public_members(node)


def _public_members(node: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    for member in _definitions(node.body):
        yield f"{node.name}.{member.name}", member
        if isinstance(member, ast.ClassDef):
            yield from _public_members(member)


def _definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    """Public classes and functions of a body, also those under `if` and `try`."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function):
            decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
            if not node.name.startswith("_") and not decorators & {"overload", "setter"}:
                yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions([*node.body, *node.orelse])


def _place(module: Module, line: int) -> str:
    return f"{PACKAGE}/{module.file}:{line}"


def check(folder: Path) -> list[Figure]:
    """All figures of the package in a folder."""
    modules = read_modules(folder)
    return [
        check_cycles(modules),
        check_layers(modules, read_layers(folder)),
        check_inits(modules),
        check_folders(modules),
        check_lines(modules),
        check_classes(modules),
        check_functions(modules),
        check_docstrings(modules),
    ]


def main(folder: Path) -> int:
    """Print the figures; 0 when all limits hold, else 1."""
    figures = check(folder)
    for figure in figures:
        verdict = "ok  " if figure.holds else "FAIL"
        print(f"{verdict} {figure.name}: {figure.value} (limit: {figure.limit})")
        for offender in figure.offenders:
            print(f"       {offender}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]))
