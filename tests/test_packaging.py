"""Wheel, source distribution and editable install: each is built, installed and run.

Elsewhere than in the checkout, as a user has them. The new environments borrow TensorFlow and the
other dependencies from the one that runs the tests.
"""

import configparser
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

import small
from tf_simclr import __version__
from tf_simclr.cli import gin_files

SOURCES = (
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "Makefile",
    "run.py",
    "requirements.txt",
    "requirements-keras3.txt",
    "requirements-test.txt",
)
FOLDERS = ("tf_simclr", "gin", "docs", "tools", "benchmarks", "examples")
TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--train_steps=1",
)


@pytest.fixture(scope="module")
def setup_cfg(repo_root):
    parser = configparser.ConfigParser()
    parser.read(repo_root / "setup.cfg")
    return parser


def test_every_package_is_listed(repo_root, setup_cfg):
    found = {
        ".".join(path.parent.relative_to(repo_root).parts)
        for path in (repo_root / "tf_simclr").rglob("__init__.py")
    }
    listed = setup_cfg["options"]["packages"].split()
    assert listed == sorted(found | {"tf_simclr.presets"})
    assert not (repo_root / "tf_simclr" / "presets").exists(), "would hide gin/ in a checkout"


def test_pythons_are_the_same_everywhere(repo_root, setup_cfg):
    prefix = "Programming Language :: Python :: 3."
    lines = setup_cfg["metadata"]["classifiers"].splitlines()
    said = {f"3.{line.removeprefix(prefix)}" for line in lines if line.startswith(prefix)}
    required = SpecifierSet(setup_cfg["options"]["python_requires"])
    assert said == {f"3.{minor}" for minor in range(5, 30) if f"3.{minor}" in required}
    table = (repo_root / "docs" / "installing.md").read_text()
    assert said == {line.split()[1] for line in table.splitlines() if line.startswith("| 3.")}


def test_the_gpu_extra_takes_the_pinned_tensorflow(repo_root, setup_cfg):
    extra = setup_cfg["options.extras_require"]["gpu"].strip().splitlines()
    pinned = [
        line
        for line in (repo_root / "requirements.txt").read_text().splitlines()
        if line.startswith("tensorflow==")
    ]
    assert [line.replace("[and-cuda]", "") for line in extra] == pinned
    assert all(Requirement(line).extras == {"and-cuda"} for line in extra)


# --- Built and installed.


def call(*command, cwd, **environment) -> str:
    """What a process prints; its errors are the test's."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def new_environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one, but not its editable install."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    [site] = folder.glob("lib/python3.*/site-packages")
    # What this adds to the path comes last, and the .pth files in there are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def install(environment: Path, *what):
    call(
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        *what,
        cwd=environment,
    )


@pytest.fixture(scope="module")
def checkout(repo_root, tmp_path_factory) -> Path:
    """A copy without tests: building leaves files behind."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        shutil.copy(repo_root / name, folder)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repo_root / name, folder / name, ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    call(sys.executable, "-c", code, cwd=checkout)
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(sdist, tmp_path_factory) -> Path:
    """An environment with the wheel that is built from the source distribution, write-protected."""
    folder = tmp_path_factory.mktemp("installed")
    wheels = folder / "wheels"
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        wheels,
        sdist,
        cwd=folder,
    )
    environment = new_environment(folder / "environment")
    [wheel] = wheels.iterdir()
    install(environment, wheel)
    for path in [environment, *environment.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    return environment


def modification_times(folder: Path) -> dict[str, int]:
    """Of all files and folders but Python's caches, which Python may leave unwritten."""
    return {
        str(path): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and not (path / "__pycache__").exists()
    }


@pytest.mark.long
def test_the_source_distribution_holds_what_users_and_builders_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sdist.name == f"tf_simclr-{__version__}.tar.gz"
    assert set(SOURCES) <= names
    assert {f"gin/{name}.gin" for name in gin_files.preset_titles()} <= names
    assert {"tools/convert_checkpoint.py", "docs/installing.md"} <= names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.long
def test_a_wheel_runs_anywhere_and_writes_nothing_into_itself(installed, shapes_dir, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "empty").mkdir()
    before = modification_times(installed)

    def tf_simclr(*arguments):
        return call(
            installed / "bin" / "tf-simclr",
            *arguments,
            cwd=tmp_path / "empty",
            HOME=str(tmp_path / "home"),
            TFDS_DATA_DIR=str(shapes_dir),
        )

    code = "import tf_simclr; print(tf_simclr.__file__)"
    found = call(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    assert Path(found).is_relative_to(installed)
    assert tf_simclr("--version").startswith(f"tf_simclr {__version__}, tensorflow 2.")
    assert len(tf_simclr("presets").splitlines()) == len(gin_files.preset_titles())
    assert os.listdir(tmp_path / "empty") == []

    assert "Step 2." in tf_simclr("--gin_file=demo", "--train_steps=2", "--model_dir=demo")
    run = tf_simclr("--gin_file=gin/cifar10_resnet50.gin", *TINY, "--model_dir=runs/preset")
    assert "SavedModel:  runs/preset/saved_model/1" in run  # the preset includes another
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "picture.png")
    tf_simclr(
        "--mode=predict",
        "--checkpoint=runs/preset",
        f"--images={tmp_path}/*.png",
        "--eval_batch_size=1",
        "--output=embeddings.npy",
    )
    assert np.load(tmp_path / "empty" / "embeddings.npy").shape == (1, 32)
    tf_simclr(
        "--mode=probe",
        "--checkpoint=runs/preset",
        "--model_dir=runs/probe",
        "--train_split=train[:100]",
        "--eval_split=test[:50]",
    )
    assert (tmp_path / "empty" / "runs" / "probe" / "result_probe.json").exists()
    assert modification_times(installed) == before
    assert not any((tmp_path / "home").rglob("*.gin"))


@pytest.mark.long
def test_an_editable_install_finds_the_presets_of_its_checkout(checkout, tmp_path):
    environment = new_environment(tmp_path / "environment")
    install(environment, "--editable", checkout)
    program = environment / "bin" / "tf-simclr"
    assert len(call(program, "presets", cwd=tmp_path).splitlines()) == len(
        gin_files.preset_titles()
    )
    (checkout / "gin" / "new.gin").write_text("# A preset that was added later.\n")
    try:
        assert "A preset that was added later." in call(program, "presets", cwd=tmp_path)
    finally:
        (checkout / "gin" / "new.gin").unlink()


@pytest.mark.long
def test_all_modules_are_imported_where_the_system_is_not_unix(repo_root, tmp_path):
    """What Python lacks on Windows is taken away, once TensorFlow itself is imported."""
    code = """
import os, pkgutil, importlib, signal, sys
import tensorflow, tensorflow_datasets, sklearn, matplotlib.pyplot
for name in ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog"):
    sys.modules[name] = None
for module, names in (
    (os, ("sched_getaffinity", "getuid", "geteuid", "fork", "getpgid", "killpg", "uname")),
    (os, [name for name in dir(os) if name.startswith("EX_")]),
    (signal, ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGALRM", "pthread_sigmask", "sigwait")),
):
    for name in names:
        delattr(module, name)
import tf_simclr
for module in pkgutil.walk_packages(tf_simclr.__path__, "tf_simclr."):
    importlib.import_module(module.name)
print("all")
"""
    assert call(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(repo_root)) == "all\n"
