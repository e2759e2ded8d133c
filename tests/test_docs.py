"""docs/security.md and docs/testing.md: the files and tests that they name exist."""

import ast
import re

import pytest


@pytest.mark.parametrize("page", ["security.md", "testing.md"])
def test_every_file_and_test_that_a_page_names_exists(repo_root, page):
    text = (repo_root / "docs" / page).read_text()
    files = re.findall(r"\b((?:\w+/)*\w+\.py)\b", text)
    assert len(files) > 10
    for name in files:
        assert (repo_root / name).exists() or (repo_root / "tests" / name).exists(), name
    tests = {
        node.name
        for file in (repo_root / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    named = re.findall(r"`(test_\w+)(\.\.\.)?", text)
    assert len(named) > 7
    for name, open_end in named:
        assert any(test == name or (open_end and test.startswith(name)) for test in tests), name
