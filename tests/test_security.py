"""docs/security.md: what it says of the whole code holds. (test_docs.py checks its names.)"""

import ast

import pytest


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
