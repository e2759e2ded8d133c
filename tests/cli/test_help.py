"""--help and docs/settings.md: every setting once, with its rules."""

import re

import pytest

from tf_simclr.cli import flags, help
from tf_simclr.config import RULES, settings


@pytest.mark.parametrize("argument", ["--help", "-h", "--helpfull", "--helpshort"])
def test_help_prints_and_exits(argument, capsys):
    with pytest.raises(SystemExit) as exit_:
        flags.parse(["run.py", "--temperature=0.5", argument])
    assert exit_.value.code == 0
    usage = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"Usage: \S*python\S* run\.py \[--name=value \.\.\.\]", usage)


@pytest.mark.parametrize(
    "program, typed",
    [
        (("python", "run.py"), "python run.py"),
        (("python", "../a b/run.py"), "python '../a b/run.py'"),
        (("tf-simclr",), "tf-simclr"),
    ],
)
def test_help_names_the_command_that_was_typed(program, typed):
    text = help.format_help(program=program)
    assert text.startswith(f"Usage: {typed} [--name=value ...]\n")
    assert f"\n  {typed} --mode=train_then_eval\n" in text


def test_help_has_each_setting_once_under_its_section():
    listed, section = [], None
    for line in help.format_help(width=100).splitlines():
        section = match[1] if (match := re.match(r"(\w+): ", line)) else section
        if match := re.match(r"  --(\w+)=(\S+)( \(default (.*)\))?$", line):
            listed.append((section, match[1]))
    expected = [(spec.section, name) for name, spec in settings().items()]
    gin_flags = ("gin_file", "gin_bindings", "allow_gin_imports")
    assert listed == [*expected, *(("Gin", name) for name in gin_flags)]


def test_help_content():
    text = help.format_help(width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "  --width_multiplier=FLOAT (default 1)\n" in text
    assert "  --optimizer=momentum|adam|lars|lamb (default lars)\n" in text
    assert "  --use_tpu=True|False|auto (default auto)\n" in text
    assert "  --checkpoint=STR (default unset)\n" in text
    for path in flags.PRESETS.glob("*.gin"):
        assert f"  gin/{path.name}\n" in text
    flat = " ".join(text.split())
    for spec in settings().values():
        assert " ".join(spec.help.split()) in flat
    for rule in RULES:
        assert rule.sentence() in flat


def test_help_examples_parse(tmp_path):
    commands = help.EXAMPLES.replace("\\\n", "").splitlines()
    assert len(commands) == 3
    for command in commands:
        flags.parse(command.split())


def test_the_page_of_settings_is_up_to_date(repo_root):
    page = (repo_root / "docs" / "settings.md").read_text()
    assert page == help.settings_page(), f"rewrite it: {help.WRITE_SETTINGS_PAGE}"
    for name in settings():
        assert page.count(f"\n| {name} | ") == 1
