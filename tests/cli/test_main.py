"""What needs no run: the version line, the list of presets, and where presets are found."""

import os
import shutil
import subprocess
import sys

import pytest

from tf_simclr import __version__
from tf_simclr.cli import flags, gin_files, main
from tf_simclr.errors import ConfigError


def answer(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["tf-simclr", *arguments])
    main.main()
    return capsys.readouterr().out


def test_version_names_what_it_runs_on(monkeypatch, capsys):
    line = answer(monkeypatch, capsys, "--version")
    assert line.startswith(f"tf_simclr {__version__}, tensorflow 2.") and line.count("\n") == 1
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}." in line


def test_presets_are_listed_by_the_names_that_gin_file_takes(monkeypatch, capsys):
    lines = answer(monkeypatch, capsys, "presets").splitlines()
    assert len(lines) == len(list(flags.PRESETS.glob("*.gin"))) >= 20
    for line in lines:
        name, title = line.split("  ", 1)
        assert os.path.isfile(gin_files.find_gin_file(name))
        assert title.strip().endswith(".") and title.strip()[0] != "#"


def test_a_local_file_wins_over_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gin").mkdir()
    for name in ("demo.gin", "gin/demo.gin", "demo"):
        assert flags.parse(["run.py", f"--gin_file={name}"]).base_files == (str(flags.DEMO),)
        (tmp_path / name).write_text("Loss.temperature = 0.7\n")
        parsed = flags.parse(["run.py", f"--gin_file={name}"])
        assert parsed.base_files == (str(tmp_path / name),)
        assert parsed.config.loss.temperature == 0.7


@pytest.mark.parametrize("name", ["../setup", "gin/../setup.cfg", "gin", "gin/", ""])
def test_other_names_are_not_presets(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="does not exist; the presets are gin/cifar10_"):
        gin_files.find_gin_file(name)


def test_an_installed_package_finds_its_presets_without_a_checkout(repo_root, tmp_path):
    """A wheel has presets/ inside the package. TensorFlow is not imported."""
    site = tmp_path / "site"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repo_root / "tf_simclr", site / "tf_simclr", ignore=ignore)
    shutil.copytree(repo_root / "gin", site / "tf_simclr" / "presets")
    (tmp_path / "empty").mkdir()
    code = (
        "import sys; from tf_simclr.cli import flags, main; main.main();"
        "names = ('cifar10_finetune_10pct', 'gin/cifar10_finetune_10pct.gin');"
        "configs = [flags.parse(['tf-simclr', f'--gin_file={n}']).config for n in names];"
        "assert configs[0] == configs[1] and configs[0].training.train_mode == 'finetune';"
        "assert flags.parse(['tf-simclr']).is_demo;"
        "assert not {'tensorflow', 'keras'} & set(sys.modules);"
        "print(flags.PRESETS)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "presets"],
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *lines, presets = done.stdout.splitlines()
    assert presets == str(site / "tf_simclr" / "presets")
    assert [line.split()[0] for line in lines] == list(gin_files.preset_titles())
