"""A checker over the package's syntax trees for code that untrusted data must never reach."""

import ast
from collections.abc import Mapping
from pathlib import Path

# Code that executes data, or lets data choose a path to write to.
MODULES = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "joblib", "code", "codeop"})
CALLS = frozenset({"eval", "exec", "compile", "__import__"})
ATTRIBUTES = frozenset(
    {
        "torch.load",
        "torch.hub",
        "np.load",  # opens .npz, and pickles with allow_pickle
        "numpy.load",
        "os.system",
        "os.popen",
        "os.symlink",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
    }
)
METHODS = frozenset({"extract", "extractall", "makelink", "symlink_to", "hardlink_to"})
KEYWORDS = {"allow_pickle": True, "shell": True, "weights_only": False}


def sources(root: Path) -> dict[str, str]:
    """Return the source of every module of the package, by dotted name."""
    return {
        ".".join(file.relative_to(root).with_suffix("").parts): file.read_text("utf-8")
        for file in sorted(root.glob("mps_shards/**/*.py"))
    }


def dangers(modules: Mapping[str, str]) -> list[str]:
    """Return a line for each dangerous expression: ``mps_shards.reading.x:12: calls eval``.

    Args:
        modules: source by dotted name.
    """
    return [
        f"{name}:{node.lineno}: {what}"
        for name, source in modules.items()
        for node in ast.walk(ast.parse(source))
        if (what := _danger(node))
    ]


def _danger(node: ast.AST) -> str:
    if isinstance(node, ast.Import | ast.ImportFrom):
        origin = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names = [alias.name for alias in node.names]
        found = [name for name in origin + names if name.split(".")[0] in MODULES]
        found += [f"{part}.{name}" for part in origin for name in names if f"{part}.{name}" in ATTRIBUTES]
        return f"imports {found[0]}" if found else ""
    if isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
        return f"uses {ast.unparse(node)}"
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            return f"calls {node.func.id}"
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            return f"calls {node.func.attr}"
        for keyword in node.keywords:
            known = keyword.arg in KEYWORDS and isinstance(keyword.value, ast.Constant)
            if known and KEYWORDS[keyword.arg] is keyword.value.value:
                return f"passes {keyword.arg}={keyword.value.value}"
    return ""
