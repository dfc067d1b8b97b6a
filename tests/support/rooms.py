"""The rooms of the house as a checker: sources in, violations out.

Reads every import by AST, wherever it stands: at module level, inside a function, under ``if TYPE_CHECKING``.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "mps_shards"

# Imports point to a lower row only; rooms on one row are strangers.
ROWS = (
    frozenset({"cli"}),
    frozenset({"loader", "dataset", "reading", "policy", "survey"}),
    frozenset({"upkeep", "pack", "read", "vision", "feed"}),
    frozenset({"shards", "storage"}),
    frozenset({"errors", "metrics"}),
)
FOLDERS = frozenset({"cli", "upkeep", "pack", "read", "vision", "feed", "shards", "storage"})
# packing looks at images with the very decoder that reading uses
BESIDE_ALLOWED = {
    ("loader", "dataset"),
    ("loader", "reading"),
    ("loader", "policy"),
    ("dataset", "reading"),
    ("dataset", "policy"),
    ("reading", "policy"),
    ("pack", "vision"),
    ("upkeep", "pack"),
    ("upkeep", "vision"),
}
FRONT_DOOR = "front door"  # mps_shards/__init__.py and __main__.py: may import any room

# What only these rooms may import. The front door may not either: it must open in a blink.
MONOPOLIES: Mapping[str, frozenset[str]] = {
    "click": frozenset({"cli"}),
    "matplotlib": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "PIL": frozenset({"vision"}),
    "pycocotools": frozenset({"vision"}),
    "ray": frozenset({"pack"}),
    "simplejpeg": frozenset({"vision"}),
    "torchvision": frozenset({"vision"}),
    "webdataset": frozenset({"read", "dataset"}),
    "obstore": frozenset({"storage"}),
    "fsspec": frozenset({"storage"}),
    "threading": frozenset({"feed", "storage", "policy"}),  # the last two: locks only, see LOCKS
    "concurrent": frozenset({"feed", "pack", "upkeep", "storage"}),  # storage: requests in flight
    "multiprocessing": frozenset({"feed", "pack", "read"}),
}
LOCKS = frozenset({"threading.Lock", "threading.RLock"})

# What may not even be reached from these, at module level: importing any of them takes torch's two seconds.
HEAVY = frozenset({"torch", "torchvision", "webdataset"})
LIGHT = ("pack", "upkeep", "storage", "shards", "read.order", "read.place", "read.cursor", "vision.decode")

# shards is a room of values: it neither opens anything nor imports what could.
IO = frozenset({"os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "urllib"})
PURE = ("pathlib.PurePath", "pathlib.PurePosixPath", "urllib.parse")


@dataclass(frozen=True, slots=True)
class Import:
    """A name that a module imports, absolute: ``from .tar import x`` in read.stream is ``mps_shards.read.tar.x``."""

    target: str
    line: int
    eager: bool  # runs when the module is imported


def sources(root: Path) -> dict[str, str]:
    """Source of every module of the package under `root`, by dotted name; a package's own is ``….__init__``."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts): file.read_text("utf-8") for file in files}


def violations(modules: Mapping[str, str]) -> list[str]:
    """What breaks the rules, one line each: ``mps_shards.read.order:12: …``; empty for a house in order.

    Args:
        modules: source by dotted name, as `sources` gives it.
    """
    trees = {name: ast.parse(source) for name, source in modules.items()}
    imports = {name: list(_imports(name, tree)) for name, tree in trees.items()}
    folders = {name.rpartition(".")[0] for name in modules}
    found = [f"{folder}: a folder without an __init__" for folder in folders if f"{folder}.__init__" not in modules]
    for name, tree in trees.items():
        room = _room(name)
        if room != FRONT_DOOR and not any(room in row for row in ROWS):
            found.append(f"{name}: no room is called {room}")
            continue
        complaints = (*_against_table(room, imports[name]), *_against_monopolies(room, tree, imports[name]))
        found += [f"{name}:{line}: {what}" for line, what in complaints]
        if name.endswith(".__init__") and room in FOLDERS and name.count(".") == 2 and not ast.get_docstring(tree):
            found.append(f"{name}: no docstring, so no charter")
        if any(_inside(name, f"{PACKAGE}.{light}") for light in LIGHT):
            found += _heaviness(name, imports)
    return found


def _inside(name: str, outer: str) -> bool:
    return f"{name}.".startswith(f"{outer}.")


def _room(module: str) -> str:
    """``read`` of ``mps_shards.read.order``; the front door of ``mps_shards.__init__``."""
    inside = module.split(".")[1:]
    return inside[0] if inside and inside[0] not in ("__init__", "__main__") else FRONT_DOOR


def _imports(module: str, tree: ast.Module) -> Iterator[Import]:
    eager = set(_run_at_import(tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in eager)
        elif isinstance(node, ast.ImportFrom):
            origin = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*origin, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, node in eager)


def _run_at_import(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from _run_at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _run_at_import(ast.iter_child_nodes(node))


def _against_table(room: str, imports: Sequence[Import]) -> Iterator[tuple[int, str]]:
    if room == FRONT_DOOR:
        return
    row = next(number for number, rooms in enumerate(ROWS) if room in rooms)
    lower = frozenset().union(*ROWS[row + 1 :])
    for imported in imports:
        if imported.target.split(".")[0] != PACKAGE:
            continue
        other = _room(imported.target)
        if other == room or other in lower or (room, other) in BESIDE_ALLOWED:
            continue
        where = (
            "beside" if other in ROWS[row] else "above" if any(other in rooms for rooms in ROWS) else "no room below"
        )
        yield imported.line, f"{room} imports {imported.target}, {where} it"


def _against_monopolies(room: str, tree: ast.Module, imports: Sequence[Import]) -> Iterator[tuple[int, str]]:
    called = [(node.lineno, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for imported in imports:
        target, top = imported.target, imported.target.split(".")[0]
        if top in MONOPOLIES and room not in MONOPOLIES[top]:
            yield (
                imported.line,
                f"{room} imports {target}: only {' and '.join(sorted(MONOPOLIES[top]))} may",
            )
        if room in ("storage", "policy") and top == "threading":
            names = {name for name in used if name.startswith("threading.")} if target == "threading" else {target}
            for name in sorted(names - LOCKS):
                yield imported.line, f"{room} uses {name}: of threading only locks, threads live in feed"
        if room == "shards" and top in IO and not any(_inside(target, name) for name in PURE):
            yield imported.line, f"shards imports {target}: it has no I/O"
        if room == "shards" and top == "torch":
            yield imported.line, f"shards imports {target}: it has no tensors"
    for line, function in called:
        if function == "print" and room != "cli":
            yield line, f"{room} calls print: only cli may"
        if function in ("open", "io.open") and room == "shards":
            yield line, f"shards calls {function}: it has no I/O"


def _heaviness(start: str, imports: Mapping[str, Sequence[Import]]) -> Iterator[str]:
    """Ways on which importing `start` imports torch."""
    ways = {module: start if module == start else f"{start} -> {module}" for module in _loaded(start, imports)}
    queue = list(ways)
    for module in queue:
        for imported in imports[module]:
            if not imported.eager:
                continue
            if imported.target.split(".")[0] in HEAVY:
                yield f"{ways[module]}:{imported.line}: loads torch, by importing {imported.target}"
            for loaded in _loaded(imported.target, imports):
                if loaded not in ways:
                    ways[loaded] = f"{ways[module]} -> {loaded}"
                    queue.append(loaded)


def _loaded(target: str, modules: Mapping[str, object]) -> Iterator[str]:
    """Modules of the package that importing `target` runs: itself and the packages around it."""
    parts = target.split(".")
    for stop in range(1, len(parts) + 1):
        name = ".".join(parts[:stop])
        yield from (known for known in (name, f"{name}.__init__") if known in modules)
