"""Imports run downward only. Read from the sources, so a lazy import counts too."""

import ast
from collections.abc import Iterator

import pytest

# From the top down; a module imports from its own row or from lower ones, and never in a circle.
ROWS = [
    {"run", "tools", "benchmarks", "examples"},
    {"cli"},
    {"experiment"},
    {"embed"},
    {"modes"},
    {"report"},
    {"run_state"},
    {"preflight"},
    {"training"},
    {"checkpoints"},
    {"probes"},
    {"losses", "optim", "models"},
    {"devices"},
    {"data"},
    {"config"},
    {"compat", "files", "console", "paths", "precision", "ranks"},
    {"errors"},
    {"tf_simclr"},
]


PRINT_VERSIONS = {
    "tf_simclr",
    "cli",
    "tools",
    "benchmarks",
    "tf_simclr.checkpoints.history",
    "tf_simclr.checkpoints.model_card",
}


def _row(module: str) -> int:
    found = [number for number, parts in enumerate(ROWS) if _part(module) in parts]
    assert found, f"{module} is missing in ROWS: add its row"
    return found[0]


def _part(module: str) -> str:
    """tf_simclr.models.resnet -> models; run -> run; tools.pictures -> tools."""
    names = module.split(".")
    return names[1] if names[0] == "tf_simclr" and len(names) > 1 else names[0]


@pytest.fixture(scope="module")
def sources(repo_root):
    """{module: syntax tree} of the package and of the programs beside it."""
    files = [repo_root / "run.py"]
    for folder in ("tf_simclr", "tools", "benchmarks", "examples"):
        files += sorted((repo_root / folder).rglob("*.py"))
    found = {}
    for file in files:
        module = ".".join(file.relative_to(repo_root).with_suffix("").parts)
        found[module.removesuffix(".__init__")] = ast.parse(file.read_text())
    return found


def _imported(tree) -> set[str]:
    """Full names of all that a module imports; `from a import b` gives a.b.

    Imports for type checkers do not count: the front door makes them lazily, by name.
    """
    found = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _executed(tree) -> Iterator[ast.AST]:
    """Yields all nodes except those under `if TYPE_CHECKING:`."""
    yield tree
    if not (isinstance(tree, ast.If) and getattr(tree.test, "id", "") == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(tree):
            yield from _executed(child)


def _edges(sources) -> set[tuple[str, str]]:
    """(importer, imported) among our own modules."""
    edges = set()
    for module, tree in sources.items():
        for name in _imported(tree):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name and name != module:
                edges.add((module, name))
    return edges


def _upward(edges):
    return sorted((a, b) for a, b in edges if _row(b) < _row(a))


def _circle(edges) -> set[str]:
    """The nodes on or between circles: what is left when leaves are taken off, again and again."""
    edges = {(a, b) for a, b in edges if a != b}
    while True:
        importers = {a for a, _ in edges}
        imported = {b for _, b in edges}
        kept = {(a, b) for a, b in edges if b in importers and a in imported}
        if kept == edges:
            return {a for a, _ in edges}
        edges = kept


def test_the_checks_find_what_they_look_for():
    assert _upward({("tf_simclr.models.simclr", "tf_simclr.training.tasks")})
    assert _upward({("tf_simclr.config.config", "tf_simclr.paths")}) == []
    assert _circle({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == {"a", "b", "c"}
    assert _circle({("a", "b"), ("b", "c"), ("a", "c")}) == set()
    lazy = ast.parse("def f():\n    from tf_simclr.models import resnet as r\n    import os.path")
    assert _imported(lazy) == {"tf_simclr.models.resnet", "os.path"}


def test_there_are_edges_to_check(sources):
    edges = _edges(sources)
    assert ("tf_simclr.modes.train", "tf_simclr.training.loop") in edges
    assert ("tf_simclr.cli.main", "tf_simclr.experiment") in edges


def test_no_import_runs_upward(sources):
    assert _upward(_edges(sources)) == []


def test_no_circle_among_modules(sources):
    assert _circle(_edges(sources)) == set()


def test_no_circle_among_packages(sources):
    assert _circle({(_part(a), _part(b)) for a, b in _edges(sources)}) == set()


def test_flags_are_imported_at_the_edge_only(sources):
    importers = {a for a, b in _edges(sources) if b == "tf_simclr.cli.flags"}
    assert "tf_simclr.cli.main" in importers
    assert {_part(module) for module in importers} <= {"cli", "tools"}


@pytest.mark.parametrize("library", ["gin", "absl.flags", "absl.app"])
def test_command_line_libraries_stay_at_the_edge(sources, library):
    users = {
        module
        for module, tree in sources.items()
        if any(name == library or name.startswith(library + ".") for name in _imported(tree))
    }
    allowed = {"cli", "tools"}
    assert {_part(module) for module in users} <= allowed


def test_absl_flags_are_not_read_below_the_command_line(sources):
    for module, tree in sources.items():
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        if _part(module) not in ("cli", "tools"):
            assert "FLAGS" not in names, module


def test_only_compat_tells_the_kerases_apart(sources):
    for module, tree in sources.items():
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {name.rpartition(".")[2] for name in _imported(tree)}
        versions = names & {"__version__", "KERAS_3", "tf_keras"}
        if module == "tf_simclr.compat":
            assert versions
        elif _part(module) not in PRINT_VERSIONS and module not in PRINT_VERSIONS:
            assert not versions, f"{module} mentions {versions}"
