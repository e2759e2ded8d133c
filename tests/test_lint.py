"""The linter says the same whatever runs leave behind in the checkout."""

import shutil
import subprocess
import sys


def test_folders_that_runs_leave_behind_change_no_verdict(repo_root, tmp_path):
    """The folder runs/ of the demo looked like a module of ours, beside tools/runs.py."""
    shutil.copy(repo_root / "pyproject.toml", tmp_path)
    for folder in ("tf_simclr", "tools", "benchmarks", "tests"):
        for path in (repo_root / folder).rglob("*.py"):
            copy = tmp_path / path.relative_to(repo_root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for name in ("runs/demo/config.gin", "build/lib/gin/demo.gin", "numpy/x", "absl/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
