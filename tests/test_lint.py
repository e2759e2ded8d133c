"""Checks that linters do not do, and that the linter ignores what runs leave in the checkout."""

import ast
import shutil
import subprocess
import sys

import pytest

FOLDERS = ("tf_simclr", "tools", "benchmarks", "examples")


def test_folders_that_runs_leave_behind_change_no_verdict(repo_root, tmp_path):
    """The folder runs/ of the demo looked like a module of ours, then called tools/runs.py."""
    shutil.copy(repo_root / "pyproject.toml", tmp_path)
    for folder in (*FOLDERS, "tests"):
        for path in (repo_root / folder).rglob("*.py"):
            copy = tmp_path / path.relative_to(repo_root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for name in ("runs/demo/config.gin", "build/lib/gin/demo.gin", "numpy/x", "absl/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=I", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def unannotated(tree: ast.Module) -> list[str]:
    """Names the parameters of public functions and methods that have no annotation."""
    missing = []
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for owner in [tree, *(c for c in classes if not c.name.startswith("_"))]:
        for function in owner.body:
            if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                continue
            parameters = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            missing += [
                f"{function.name}, line {function.lineno}: {parameter.arg}"
                for parameter in parameters
                if parameter.annotation is None and parameter.arg not in ("self", "cls")
            ]
    return missing


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_functions_annotate_their_parameters(repo_root, folder):
    """Ruff (ANN201) asks for the type of what they return."""
    missing = {
        str(path.relative_to(repo_root)): names
        for path in sorted((repo_root / folder).rglob("*.py"))
        if (names := unannotated(ast.parse(path.read_text())))
    }
    assert not missing, missing
