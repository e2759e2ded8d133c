"""docs/security.md: what it names exists, and what it says of the whole code holds."""

import ast
import re

import pytest


@pytest.fixture(scope="module")
def page(repo_root) -> str:
    return (repo_root / "docs" / "security.md").read_text()


def test_every_file_and_test_that_the_page_names_exists(repo_root, page):
    files = re.findall(r"\b((?:\w+/)*\w+\.py)\b", page)
    assert len(files) > 10
    for name in files:
        assert (repo_root / "tests" / name).exists(), name
    tests = {
        node.name
        for file in (repo_root / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    named = re.findall(r"`(test_\w+)(\.\.\.)?`", page)
    assert len(named) > 7
    for name, open_end in named:
        assert any(test == name or (open_end and test.startswith(name)) for test in tests), name


def test_numpy_never_unpickles(repo_root):
    folders = ("tf_simclr", "tools", "benchmarks")
    files = [path for folder in folders for path in (repo_root / folder).rglob("*.py")]
    loads = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pickle."):
                pytest.fail(f"{file} unpickles")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                loads += 1
                allowed = {key.arg: ast.unparse(key.value) for key in node.keywords}
                assert allowed.get("allow_pickle", "False") == "False", f"{file}:{node.lineno}"
    assert loads
