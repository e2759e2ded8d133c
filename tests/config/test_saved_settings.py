"""The settings that a run saves are read back with the same values, and only as data."""

import json

import pytest

from tf_simclr import files
from tf_simclr.cli import flags
from tf_simclr.config import Config, saved_settings
from tf_simclr.errors import ConfigError

OTHER = Config().replace(
    temperature=0.1 + 0.2,
    weight_decay=1e-6,
    checkpoint='it\'s "here"\n# é',
    use_blur=False,
    variable_schema=r"(?!head)\d\\",
    seed=2**31 - 1,
    train_steps=7,
    eval_name=None,
)


def error_of(path, text) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        saved_settings.read(str(path))
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 900
    return message.removeprefix(str(path)).lstrip(" :")


@pytest.mark.parametrize("config", [Config(), OTHER], ids=["default", "other"])
@pytest.mark.parametrize("name", ["config.json", "config.gin"])
def test_round_trip(tmp_path, config, name):
    write = saved_settings.to_json if name.endswith("json") else saved_settings.to_gin
    (tmp_path / name).write_text(write(config.replace(mode="eval", model_dir="x")))
    values = saved_settings.read(str(tmp_path / name))
    assert values == saved_settings.saved_values(config)
    assert Config().replace(**values) == config


def test_json_says_what_it_is():
    content = json.loads(saved_settings.to_json(Config()))
    assert content["format"] == "tf_simclr settings" and content["version"] == 1
    assert content["settings"]["Loss"]["temperature"] == 0.1
    assert "model_dir" not in content["settings"]["Runtime"]


def test_json_comes_before_gin_and_either_will_do(tmp_path):
    assert saved_settings.find(str(tmp_path)) is None
    (tmp_path / "config.gin").write_text("Loss.temperature = 0.7\n")
    assert flags.parse(["", f"--model_dir={tmp_path}"]).config.loss.temperature == 0.7
    (tmp_path / "config.json").write_text(saved_settings.to_json(Config().replace(temperature=0.8)))
    parsed = flags.parse(["", f"--model_dir={tmp_path}"])
    assert parsed.config.loss.temperature == 0.8
    assert parsed.base_files == (str(tmp_path / "config.json"),)


def test_gin_takes_comments_blank_lines_and_long_literals(tmp_path):
    (tmp_path / "config.gin").write_text(
        "# head\n\nLoss.temperature = 0.5  # why\nData.train_split = (\n    'train'\n"
        "    '[:50%]')\nRuntime.seed = None\n"
    )
    assert saved_settings.read(str(tmp_path / "config.gin")) == {
        "temperature": 0.5,
        "train_split": "train[:50%]",
        "seed": None,
    }


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from os import path",
        "from __gin__ import dynamic_registration",
        "include 'other.gin'",
        "RATE = 0.5",
        "Loss.temperature = @f",
        "Loss.temperature = @f()",
        "Loss.temperature = %RATE",
        "a/Loss.temperature = 0.5",
        "Loss:",
        "print(1)",
        "Loss.temperature = float('1')",
        "Loss.temperature = Loss.hidden_norm",
        "Loss.temperature = [x for x in (1,)]",
        "Loss.temperature = 1e",
        "Loss.temperature += 1",
        "Loss.temperature = Loss.hidden_norm = 1",
        "a.b.c = 1",
        "Loss['temperature'] = 1",
        "def f(): pass",
        "Loss.temperature = f'{1}'",
        "Loss.temperature = " + "(" * 5000,
    ],
    ids=lambda line: line[:40],
)
def test_gin_of_a_run_is_plain_assignments(tmp_path, line):
    message = error_of(tmp_path / "config.gin", f"# head\nLoss.hidden_norm = True\n{line}\n")
    assert message.startswith("line 3: a run's saved settings may only have"), message


@pytest.mark.parametrize(
    "section, name, value, message",
    [
        ("Los", "temperature", 0.5, "unknown section 'Los'; did you mean Loss?"),
        ("Loss", "temprature", 0.5, "unknown setting Loss.temprature; did you mean temperature"),
        ("Model", "learning_rate", 0.5, "learning_rate belongs to Optimizer, not to Model"),
        ("Runtime", "model_dir", "/etc", "model_dir is for a single start"),
        ("Predict", "output", "../x.csv", "output is for a single start"),
        ("Model", "resnet_depth", "18", "Model.resnet_depth must be an int, got '18'"),
        ("Model", "resnet_depth", True, "Model.resnet_depth must be an int, got True"),
        ("Loss", "temperature", [0.5], "Loss.temperature must be a float, got [0.5]"),
        ("Loss", "temperature", {"a": 1}, "Loss.temperature must be a float, got {'a': 1}"),
        ("Loss", "temperature", None, "Loss.temperature must be a float, got None"),
        ("Data", "image_size", "x" * 10_000, "Data.image_size must be an int, got 'xxx"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_are_checked_in_both_files(tmp_path, section, name, value, message):
    content = {"format": saved_settings.FORMAT, "version": 1, "settings": {section: {name: value}}}
    as_json, as_gin = json.dumps(content), f"{section}.{name} = {value!r}\n"
    assert error_of(tmp_path / "config.json", as_json).startswith(message)
    assert error_of(tmp_path / "config.gin", as_gin).startswith(f"line 1: {message}")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[1]", "is not a JSON object"),
        ("{}", "does not contain the settings of a run"),
        ("[" * 100_000, "is not valid JSON"),
        (
            '{"format": "other", "version": 1, "settings": {}}',
            "does not contain the settings of a run",
        ),
        ('{"format": "F", "version": 2, "settings": {}}', "was written by a newer tf_simclr"),
        ('{"format": "F", "version": true, "settings": {}}', "version must be 1, got True"),
        ('{"format": "F", "version": 1, "settings": []}', "settings must be an object, got []"),
        (
            '{"format": "F", "version": 1, "settings": {"Loss": 1}}',
            "'Loss' must be an object, got 1",
        ),
        ('{"format": "F", "version": 1, "settings": {}, "x": 1}', "unknown field 'x'"),
        (
            '{"format": "F", "version": 1, "settings": {"Loss": {"temperature": NaN}}}',
            "is not valid JSON (NaN is not a finite number)",
        ),
        (
            '{"format": "F", "version": 1, "settings": {"Loss": {"temperature": 1e999}}}',
            "Loss.temperature must be a finite number, got inf",
        ),
        (
            '{"format": "F", "version": 1, "version": 2, "settings": {}}',
            "is not valid JSON ('version' occurs twice)",
        ),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b" " * (files.MAX_BYTES + 1), "is larger than 1048576"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_broken_json_is_an_error_of_one_line(tmp_path, text, message):
    if isinstance(text, str):
        text = text.replace('"F"', f'"{saved_settings.FORMAT}"')
    assert error_of(tmp_path / "config.json", text).startswith(message)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"Loss.temperature = '\xff'\n", "is not UTF-8 text"),
        (b"#" * (files.MAX_BYTES + 1), "is larger than 1048576"),
        ("Loss.temperature = 1\0\n", ""),
        ("Loss.temperature = " + "-" * 100_000 + "1\n", ""),
        ("Loss.temperature = 1e999\n", "line 1: Loss.temperature must be a finite number, got inf"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_broken_gin_is_an_error_of_one_line(tmp_path, text, message):
    assert error_of(tmp_path / "config.gin", text).startswith(message)


def test_a_directory_of_that_name_is_no_file(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert saved_settings.find(str(tmp_path)) is None


def test_the_config_of_another_library_beside_weights_is_not_ours(tmp_path):
    """Weights on model hubs come with a config.json of another program."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["ResNetModel"]}')
    weights = str(tmp_path / "model" / "model.safetensors")
    assert saved_settings.find_beside(weights) is None
    (tmp_path / "config.json").write_text(saved_settings.to_json(Config()))
    assert saved_settings.find_beside(weights) == str(tmp_path / "config.json")
    (tmp_path / "model" / "config.json").write_text('{"format": ')  # damaged: perhaps ours
    assert saved_settings.find_beside(weights) == str(tmp_path / "model" / "config.json")
