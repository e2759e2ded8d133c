"""Commands of README and recipes: each parses to the settings it names; each file is there."""

import re
import shlex
from pathlib import Path

import pytest

from tf_simclr.cli import flags
from tf_simclr.cli.show import main as show

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = README + (ROOT / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"^    +((?:srun .*)?\S*python \S+\.py (?:.*\\\n)*.*)$", PAGES, re.MULTILINE)
COMMANDS = [shlex.split(block.replace("\\\n", " ")) for block in BLOCKS]
RUNS = [command[command.index("run.py") :] for command in COMMANDS if "run.py" in command]
RUNS = [run for run in RUNS if run[1] not in ("runs", "show")]


def test_there_are_commands():
    assert len(RUNS) >= 15
    assert any("--mode=predict" in run for run in RUNS)


@pytest.mark.parametrize("arguments", RUNS, ids=" ".join)
def test_commands_parse(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("pictures", "sorted"):
        (tmp_path / folder).mkdir()
    arguments = [a.replace("--data_dir=/data/tfds", "--data_dir=pictures") for a in arguments]
    if "--gin_file=runs/demo/config.gin" in arguments:
        arguments.remove("--gin_file=runs/demo/config.gin")  # the demo would have left it
    values = flags.parse(arguments).config.to_dict()
    for argument in arguments[1:]:
        name, _, text = argument.removeprefix("--").partition("=")
        if name != "gin_file":
            assert str(values[name]).strip("0.") == (text or "True").strip("0."), name


def test_commands_that_show_parse():
    """Those of README, and of docs/reports.md, which writes them for an installed package."""
    pages = README + (ROOT / "docs" / "reports.md").read_text()
    lines = re.findall(r"^    (?:tf-simclr show|python tools/show.py) (.*)$", pages, re.MULTILINE)
    assert len(lines) >= 9
    parser = show.make_parser("show")
    for line in lines:
        assert parser.parse_args(shlex.split(line, comments=True)).subcommand in show.SUBCOMMANDS


def test_what_is_named_is_there():
    for command in COMMANDS:
        for word in command:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), word
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for path in re.findall(r"\]\((?!http)([^)\s#]+)[^)]*\)", page.read_text()):
            assert (page.parent / path).exists(), f"{path} in {page.name}"
    for pattern in re.findall(r"`(gin/\S+\.gin)`", PAGES):
        assert list(ROOT.glob(pattern)), pattern
    tools = re.findall(r"^\| \[tools/(\w+)\.py\]", README, re.MULTILINE)
    programs = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"series"}
    assert sorted(tools) == sorted(programs)
