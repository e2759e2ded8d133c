"""Command line and gin files: precedence, base files, errors, help, round trip."""

import os
import re
import subprocess
import sys
import textwrap
import types

import gin
import pytest
from absl import flags as absl_flags

from tf_simclr import config as config_lib
from tf_simclr.cli import flags
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.errors import ConfigError


def parse(*arguments):
    return flags.parse(["run.py", *arguments])


def error_of(*arguments):
    with pytest.raises(ConfigError) as error:
        parse(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def write(tmp_path):
    def write_file(name, text):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write_file


# --- Flags generated from the settings.


def test_every_setting_is_a_flag():
    values = absl_flags.FlagValues()
    flags.define_flags(values)
    assert set(values) == set(settings()) | {"gin_file", "gin_bindings", "allow_gin_imports"}
    for name, spec in settings().items():
        assert values[name].default == spec.default
        assert values[name].help == spec.help
        assert values[name].boolean == (bool in spec.types)
        assert not values[name].present


def _text(value):
    return "" if value is None else str(value)


@pytest.mark.parametrize("name", settings())
def test_each_flag_reaches_its_field(name, tmp_path):
    other = {
        "data_dir": str(tmp_path),
        "model_dir": str(tmp_path),
        "resnet_depth": 101,
        "fine_tune_after_block": 3,
        "sk_ratio": 0.5,
        "se_ratio": 0.5,
        "batch_norm_decay": 0.5,
        "momentum": 0.5,
        "use_tpu": True,
        "seed": 7,
        "variable_schema": r"a\d+|'b'",
        "ft_proj_selector": -1,
        "data_service": "grpc://host:1",
        "label_fraction": 0.5,
        "distill_label_weight": 0.5,
        "output": "x.npy",
        "profile_steps": "3,5",
        "image_range": "0,4095",
    }
    spec = settings()[name]
    if name in other:
        value = other[name]
    elif spec.choices:
        value = next(c for c in spec.choices if c != spec.default)
    elif spec.types == (bool,):
        value = not spec.default
    else:
        value = "other" if spec.types == (str,) else spec.default + 3
    extra = {
        "fine_tune_after_block": ["--train_mode=finetune"],
        "from_scratch": ["--train_mode=finetune"],
        "teacher": ["--train_mode=distill"],
        "unlabelled": ["--dataset=folder"],
        "images": ["--mode=predict", "--model_dir=nowhere"],
        "label_fraction": ["--train_mode=finetune"],
        "best_metric": ["--eval_every_epochs=1"],
        "stop_after": ["--eval_every_epochs=1"],
        "first_shortcut": ["--resnet_depth=18"],
        "mode": ["--model_dir=nowhere"],
    }.get(name, [])
    got = parse(f"--{name}={_text(value)}", *extra).config.to_dict()[name]
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "argument,name,value",
    [
        ("--use_tpu", "use_tpu", True),
        ("--nouse_tpu", "use_tpu", False),
        ("--use_tpu=True", "use_tpu", True),
        ("--use_tpu=False", "use_tpu", False),
        ("--use_tpu=auto", "use_tpu", "auto"),
        ("--use_tpu=0", "use_tpu", False),
        ("--use_blur=False", "use_blur", False),
        ("--nouse_blur", "use_blur", False),
        ("--width_multiplier=2", "width_multiplier", 2.0),
        ("--warmup_epochs=0", "warmup_epochs", 0.0),
        ("--weight_decay=1e-4", "weight_decay", 1e-4),
        ("-resnet_depth=18", "resnet_depth", 18),
        ("--seed=None", "seed", None),
        ("--checkpoint=", "checkpoint", None),
    ],
)
def test_spellings(argument, name, value):
    got = parse("--train_epochs=5", argument).config.to_dict()[name]
    assert got == value and type(got) is type(value)


def test_value_as_the_next_argument():
    assert parse("--learning_rate", "1.5").config.optimizer.learning_rate == 1.5


def test_official_readme_command(tmp_path):
    config = parse(
        "--mode=train_then_eval",
        "--train_mode=finetune",
        "--fine_tune_after_block=4",
        "--zero_init_logits_layer=True",
        "--variable_schema=(?!global_step|(?:.*/|^)Momentum|head)",
        "--global_bn=False",
        "--optimizer=momentum",
        "--learning_rate=0.1",
        "--weight_decay=0.0",
        "--train_epochs=100",
        "--train_batch_size=512",
        "--warmup_epochs=0",
        "--dataset=cifar10",
        "--image_size=32",
        "--eval_split=test",
        "--resnet_depth=18",
        "--checkpoint=/tmp/simclr_test",
        f"--model_dir={tmp_path}",
        "--use_tpu=False",
    ).config
    preset = parse("--gin_file=cifar10_linear_eval").config
    assert config == preset.replace(
        mode="train_then_eval",
        checkpoint="/tmp/simclr_test",
        model_dir=str(tmp_path),
        use_tpu=False,
    )


def test_parses_share_no_state():
    assert parse("--temperature=0.5", "--gin_bindings=Model.resnet_depth = 18").config != Config()
    parsed = parse("--temperature=0.1")
    assert parsed.config == Config()
    assert parsed.explicit == {"temperature"}
    assert gin.config_str() == ""


def test_absl_flags_are_accepted():
    from absl import logging  # noqa: F401  Defines --verbosity.

    before = absl_flags.FLAGS["verbosity"].value
    try:
        config = parse("--verbosity", "1", "--temperature=0.5").config
        assert config.loss.temperature == 0.5
        assert absl_flags.FLAGS.is_parsed() and absl_flags.FLAGS.verbosity == 1
    finally:
        absl_flags.FLAGS.verbosity = before


# --- Precedence and base files.


def test_precedence(write):
    first = write(
        "first.gin",
        """
        Loss.temperature = 0.2
        Optimizer.learning_rate = 0.2
        Optimizer.momentum = 0.2
        Optimizer.weight_decay = 0.2
        """,
    )
    second = write(
        "second.gin",
        """
        Optimizer.learning_rate = 0.3
        Optimizer.momentum = 0.3
        Optimizer.weight_decay = 0.3
        """,
    )
    parsed = parse(
        "--weight_decay=0.5",
        f"--gin_file={first}",
        f"--gin_file={second}",
        "--gin_bindings=Optimizer.weight_decay = 0.4",
        "--gin_bindings=Optimizer.momentum = 0.35",
        "--gin_bindings=Optimizer.momentum = 0.4",
    )
    assert parsed.config == Config().replace(
        temperature=0.2, learning_rate=0.3, momentum=0.4, weight_decay=0.5
    )
    assert parsed.base_files == (first, second) and not parsed.is_demo


def test_flag_equal_to_the_default_still_wins(write):
    path = write("a.gin", "Loss.temperature = 0.5\nTraining.checkpoint = 'x'\n")
    config = parse(f"--gin_file={path}", "--temperature=0.1", "--checkpoint=").config
    assert config.loss.temperature == 0.1 and config.training.checkpoint is None


def test_run_restarts_from_its_own_settings(tmp_path, write):
    saved = write("config.gin", "Loss.temperature = 0.7\n")
    parsed = parse(f"--model_dir={tmp_path}", "--learning_rate=0.9")
    assert parsed.base_files == (saved,) and not parsed.is_demo
    assert parsed.config == Config().replace(
        temperature=0.7, learning_rate=0.9, model_dir=str(tmp_path)
    )
    assert not parse(f"--model_dir={tmp_path}").is_demo
    # --gin_file replaces the saved settings.
    other = write("other.gin", "Loss.temperature = 0.8\n")
    parsed = parse(f"--model_dir={tmp_path}", f"--gin_file={other}")
    assert parsed.base_files == (other,) and parsed.config.loss.temperature == 0.8


@pytest.mark.parametrize("mode", ["probe", "predict"])
def test_modes_that_look_at_a_checkpoint_start_from_the_settings_beside_it(tmp_path, mode):
    """Not taken over: where that run began and, to predict, where its data was."""
    run = tmp_path / "run"
    (run / "saved_model" / "7").mkdir(parents=True)
    saved = Config().replace(
        resnet_depth=18,
        train_mode="finetune",
        checkpoint="runs/before",
        label_fraction=0.1,
        dataset="folder",
        data_dir=str(tmp_path),
    )
    images = ["--images=x"] if mode == "predict" else []
    for settings_of_run in (saved, saved.replace(checkpoint=None, from_scratch=True)):
        (run / "config.gin").write_text(saved_settings.to_gin(settings_of_run))
        for checkpoint in (run, run / "ckpt-7", run / "saved_model" / "7"):
            parsed = parse(
                f"--mode={mode}",
                f"--checkpoint={checkpoint}",
                *images,
                f"--model_dir={tmp_path / 'new'}",
            )
            config = parsed.config
            assert parsed.base_files == (str(run / "config.gin"),)
            assert config.model.resnet_depth == 18 and not config.training.from_scratch
            assert config.training.checkpoint == str(checkpoint)
            kept = (config.data.dataset, config.data.data_dir, config.data.label_fraction)
            assert kept == (
                ("folder", str(tmp_path), 1.0) if mode == "probe" else ("imagenet2012", None, 0.1)
            )
        restarted = parse(f"--mode={mode}", f"--model_dir={run}", *images).config
        assert restarted.training.checkpoint is None and restarted.model.resnet_depth == 18
        bound = parse(
            f"--mode={mode}",
            f"--model_dir={run}",
            *images,
            "--gin_bindings=Training.checkpoint = 'a'",
        ).config
        assert bound.training.checkpoint == "a"
    trained = parse(f"--model_dir={run}").config
    assert trained.training.from_scratch and trained.data.label_fraction == 0.1


def test_remote_model_dir_is_read_by_tensorflow(monkeypatch, write):
    """gs:// goes to tf.io.gfile, which is replaced here by one that serves a local file."""

    class OpError(Exception):
        pass

    local = write("config.gin", "Loss.temperature = 0.7\n")

    def exists(path):
        if path.startswith("foo://"):
            raise OpError("scheme 'foo'\nnot implemented")
        return path == "gs://bucket/run/config.gin"

    gfile = types.SimpleNamespace(exists=exists, GFile=lambda path: open(local))
    monkeypatch.setitem(
        sys.modules,
        "tensorflow",
        types.SimpleNamespace(
            io=types.SimpleNamespace(gfile=gfile), errors=types.SimpleNamespace(OpError=OpError)
        ),
    )
    parsed = parse("--model_dir=gs://bucket/run")
    assert parsed.base_files == ("gs://bucket/run/config.gin",)
    assert parsed.config.loss.temperature == 0.7
    assert parse("--model_dir=gs://bucket/other").is_demo
    assert error_of("--model_dir=foo://a").startswith("cannot look up foo://a/config.json: scheme")


@pytest.mark.parametrize(
    "arguments,is_demo",
    [
        ([], True),
        (["--mode=train_then_eval"], True),
        (["--model_dir=nowhere", "--seed=3"], True),
        (["--temperature=0.1"], False),
        (["--gin_bindings=Loss.temperature = 0.1"], False),
        (["--gin_file=demo"], False),
    ],
)
def test_demo(arguments, is_demo):
    parsed = parse(*arguments)
    assert parsed.is_demo == is_demo
    assert (parsed.config.data.dataset == "shapes") == (is_demo or "--gin_file=demo" in arguments)


@pytest.mark.parametrize("name", ["demo", "demo.gin", "gin/demo.gin", str(flags.DEMO)])
def test_presets_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(f"--gin_file={name}").base_files == (str(flags.DEMO),)


def test_gin_macros_and_includes(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    inner = write("inner.gin", "RATE = 0.25\nLoss.temperature = 0.5\n")
    write("outer.gin", f"include '{inner}'\nOptimizer.learning_rate = %RATE\n")
    config = parse("--gin_file=outer.gin").config
    assert (config.loss.temperature, config.optimizer.learning_rate) == (0.5, 0.25)


# --- Paths.

PATH_FLAGS = ("data_dir", "checkpoint", "teacher", "images", "output", "model_dir")
_WHERE_ALLOWED = {
    "teacher": ["--train_mode=distill"],
    "images": ["--mode=predict", "--model_dir=nowhere"],
}


def test_settings_that_are_paths():
    assert tuple(name for name, spec in settings().items() if spec.is_path) == PATH_FLAGS


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    (folder / "x.csv").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("name", PATH_FLAGS)
def test_a_tilde_is_the_home_directory_however_a_path_is_given(home, write, name):
    extra = _WHERE_ALLOWED.get(name, [])
    line = f"{settings()[name].section}.{name} = '~/x.csv'"
    for given in (
        [f"--{name}=~/x.csv"],
        [f"--{name}", "~/x.csv"],
        [f"--gin_bindings={line}"],
        [f"--gin_file={write('a.gin', line)}"],
    ):
        assert parse(*given, *extra).config.to_dict()[name] == str(home / "x.csv"), given
    assert Config().replace(**{name: "~/x.csv"}).to_dict()[name] == str(home / "x.csv")


def test_a_tilde_leads_to_gin_files_and_to_the_settings_of_a_run(home):
    (home / "b.gin").write_text("Loss.temperature = 0.7\n")
    (home / "a.gin").write_text("include '~/b.gin'\n")
    parsed = parse("--gin_file=~/a.gin")
    assert parsed.base_files == (str(home / "a.gin"),) and parsed.config.loss.temperature == 0.7
    (home / "config.gin").write_text("Loss.temperature = 0.8\n")
    for form in (["--model_dir=~"], ["--model_dir", "~/"]):
        assert parse(*form).config.loss.temperature == 0.8


def test_a_home_directory_that_is_not_known_is_refused():
    message = error_of("--model_dir=~nobody_of_this_name/x")
    assert message.startswith("model_dir must begin with a home directory that is known, got '~no")
    assert "./~" in message
    assert parse("--model_dir=./~/x").config.runtime.model_dir == "./~/x"


@pytest.mark.parametrize("name", ["model_dir", "checkpoint", "teacher"])
@pytest.mark.parametrize("path", ["runs/a[1]", "runs/a?", "ru*s/a", "runs/a\\b", "r/\udcff"])
def test_paths_that_tensorflow_reads_as_patterns_or_cannot_encode_are_refused(name, path):
    extra = _WHERE_ALLOWED.get(name, [])
    start = f"{name} must be a path in UTF-8 without * ? [ \\ ("
    assert error_of(f"--{name}={path}", *extra).startswith(start)
    text = f"--gin_bindings={settings()[name].section}.{name} = {path!r}"
    assert error_of(text, *extra).startswith(start)


def test_data_and_pictures_may_have_brackets_in_their_names(tmp_path):
    (tmp_path / "a[1]").mkdir()
    assert parse(f"--data_dir={tmp_path / 'a[1]'}").config.data.data_dir == str(tmp_path / "a[1]")


# --- to_gin.


def test_to_gin_round_trip(write):
    values = dict(
        temperature=0.1 + 0.2,
        weight_decay=1e-6,
        width_multiplier=0.25,
        checkpoint='it\'s "é"\n# no comment',
        variable_schema=r"(?!global_step|(?:.*/|^)Momentum|head)\d\\",
        eval_name="a-b_c.d",
        seed=2**31 - 1,
        use_blur=False,
        train_steps=7,
        dataset="a%b@c",
    )
    config = Config().replace(**values)
    for name in ("config.gin", "other.gin"):  # read as plain values, and by gin
        path = write(name, saved_settings.to_gin(config))
        assert parse(f"--gin_file={path}").config == config
    assert parse(f"--gin_file={write('d.gin', saved_settings.to_gin(Config()))}").config == Config()


def test_to_gin_omits_the_settings_of_a_single_start():
    text = saved_settings.to_gin(Config().replace(model_dir="x", mode="eval", use_tpu=True))
    names = re.findall(r"^\w+\.(\w+) = ", text, re.MULTILINE)
    assert names == [name for name, spec in settings().items() if spec.saved]
    assert re.findall(r"^# (\w+)$", text, re.MULTILINE) == [
        section.__name__ for section in config_lib.SECTIONS if section.__name__ != "Predict"
    ]


# --- Errors.


@pytest.mark.parametrize(
    "argument,message",
    [
        ("--learning_rat=1", "unknown flag --learning_rat; did you mean --learning_rate"),
        ("--nouse_blurr", "unknown flag --nouse_blurr; did you mean --use_blur?"),
        ("--zzz", "unknown flag --zzz; --help lists them all"),
        ("--learning_rate=abc", "learning_rate must be a float, got 'abc'"),
        ("--learning_rate=nan", "learning_rate must be a finite number, got nan"),
        ("--train_epochs=1.5", "train_epochs must be an int, got '1.5'"),
        ("--resnet_depth=51", "resnet_depth must be one of 18, 34, 50, 101, 152, 200, got 51"),
        (
            "--mode=test",
            "mode must be one of train, eval, train_then_eval, probe, predict, got 'test'",
        ),
        ("--use_blur=maybe", "use_blur must be True or False, got 'maybe'"),
        ("--use_tpu=maybe", "use_tpu must be one of True, False, auto, got 'maybe'"),
        ("--temperature=-1", "temperature must be greater than 0, got -1.0"),
        ("--temperature", "Missing value for flag --temperature"),
        ("False", "unexpected argument 'False'; settings are written --name=value"),
        ("--fine_tune_after_block=2", "fine_tune_after_block must be -1 with train_mode=pretrain"),
        ("--data_dir=no/such", "data_dir must be an existing directory"),
        (
            "--eval_name=../../x",
            "eval_name must be up to 100 letters, digits, '.', '_' or '-'",
        ),
        ("--eval_name=a/b", "eval_name must be up to 100 letters"),
        ("--eval_name=" + 101 * "x", "eval_name must be up to 100 letters"),
        ("--eval_name=a b", "eval_name must be up to 100 letters"),
        ("--eval_name=a\n", "eval_name must be up to 100 letters"),
    ],
)
def test_flag_errors(argument, message):
    assert error_of(argument).startswith(message)


def test_missing_gin_file_names_the_presets():
    message = error_of("--gin_file=x.gin")
    assert message.startswith("gin_file 'x.gin' does not exist; the presets are gin/cifar10_")
    assert "gin/demo.gin" in message


@pytest.mark.parametrize(
    "line,message",
    [
        ("Loss.temperature = ", "Unable to parse value"),
        ("Loss.temperature 0.5", "Couldn't parse statement"),
        ("Los.temperature = 0.5", "unknown section Los; did you mean Loss?"),
        ("optimizer.learning_rate = 0.5", "unknown section optimizer; did you mean Optimizer?"),
        ("Qqqq.temperature = 0.5", "unknown section Qqqq; the sections are Data, Augment"),
        ("Loss.temprature = 0.5", "unknown setting Loss.temprature; did you mean temperature?"),
        ("Loss.zzz = 0.5", "unknown setting Loss.zzz; Loss has temperature, hidden_norm"),
        ("Model.learning_rate = 0.5", "learning_rate belongs to Optimizer, not to Model"),
    ],
)
def test_gin_errors_say_where(line, message, write):
    path = write("bad.gin", f"# head\nLoss.hidden_norm = True\n{line}\n")
    got = error_of(f"--gin_file={path}")
    assert got.startswith(f"{path} line 3: {message}"), got
    got = error_of(f"--gin_bindings={line}")
    assert got.startswith(f"gin_bindings: {message}"), got


@pytest.mark.parametrize(
    "line,message",
    [
        ("Optimizer.learning_rate = 'abc'", "Optimizer.learning_rate must be a float, got 'abc'"),
        ("Model.resnet_depth = '18'", "Model.resnet_depth must be an int, got '18'"),
        ("Augment.use_blur = 1", "Augment.use_blur must be True or False, got 1"),
        ("Model.resnet_depth = 19", "resnet_depth must be one of"),
        ("temperature = 0.5", "gin setting temperature lacks its section; write Loss.temperature"),
        ("a/Loss.temperature = 0.5", "gin setting a/Loss.temperature has a scope"),
        ("Loss.temperature = %NONE", "gin"),
        ("Loss.temperature = @nothing", "gin_bindings: a reference (@...) can run code"),
        ("import no_such_module_at_all", "gin_bindings: import can run code"),
        ("include 'no_such_file.gin'", "gin_bindings: Unable to open file: no_such_file.gin"),
    ],
)
def test_gin_values_are_checked(line, message):
    assert error_of(f"--gin_bindings={line}").startswith(message)
    assert gin.config_str() == ""


EVIL = {
    "import": "import evil_module\n",
    "from": "from evil_module import open\n",
    "after settings": "Loss.temperature = 0.5\nimport evil_module\n",
    "dynamic registration": "from __gin__ import dynamic_registration\nimport evil_module\n",
    "reference": "Loss.temperature = @gin.singleton()\n",
    "reference in a list": "Loss.temperature = [1, @gin.singleton()]\n",
    "reference in a macro": "X = @gin.singleton()\nLoss.temperature = %X\n",
    "reference in a block": "Loss:\n    temperature = @gin.singleton()\n",
    "another configurable": "gin.singleton.constructor = 1\n",
}


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_gin_files_cannot_run_code(text, write, evil):
    path = write("evil.gin", text)
    includes = write("includes.gin", f"include '{path}'\n")
    for argument in (f"--gin_file={path}", f"--gin_file={includes}", f"--gin_bindings={text}"):
        message = error_of(argument)
        assert re.match(
            r"(gin_bindings|\S+evil.gin line \d+): "
            r"((import|a reference \(@...\)) can run code|unknown section)",
            message,
        )
    assert not evil.exists()
    assert gin.config_str() == ""


def test_remote_gin_files_cannot_run_code(monkeypatch, write, evil):
    local = write("remote.gin", "import evil_module\n")
    gfile = types.SimpleNamespace(exists=lambda path: True, GFile=lambda path: open(local))
    monkeypatch.setitem(
        sys.modules,
        "tensorflow",
        types.SimpleNamespace(
            io=types.SimpleNamespace(gfile=gfile), errors=types.SimpleNamespace(OpError=OSError)
        ),
    )
    message = error_of("--gin_file=gs://bucket/a.gin")
    assert re.match(r"\S+remote.gin line 1: import can run code", message)
    for name in ("config.gin", "config.json"):
        message = error_of(f"--gin_file=gs://bucket/{name}")
        assert message.startswith(f"gs://bucket/{name}")
    assert not evil.exists()


def test_gin_files_may_import_if_the_user_allows_it(write, evil):
    path = write("evil.gin", "import evil_module\nLoss.temperature = 0.5\n")
    assert parse(f"--gin_file={path}", "--allow_gin_imports").config.loss.temperature == 0.5
    assert evil.exists()
    message = error_of("--gin_bindings=import no_such_module_at_all", "--allow_gin_imports")
    assert message.startswith("gin_bindings: No module named")


def test_saved_settings_are_data_even_if_gin_may_import(write, evil):
    path = write("config.gin", "import evil_module\n")
    assert error_of(f"--gin_file={path}", "--allow_gin_imports").startswith(f"{path} line 1: a run")
    assert not evil.exists()


def test_saved_settings_and_gin_files_together_the_later_wins(write):
    saved = write("config.gin", "Loss.temperature = 0.2\nOptimizer.momentum = 0.2\n")
    other = write("a.gin", "RATE = 0.3\nLoss.temperature = %RATE\n")
    config = parse(f"--gin_file={saved}", f"--gin_file={other}").config
    assert (config.loss.temperature, config.optimizer.momentum) == (0.3, 0.2)
    config = parse(f"--gin_file={other}", f"--gin_file={saved}").config
    assert config.loss.temperature == 0.2


@pytest.mark.parametrize(
    "dataset, allowed",
    [
        ("huggingface:mnist", False),
        ("kubric:kubric_frames", False),
        ("cifar10:3.0.2", True),
        ("imagenet2012_subset/1pct:5.*.*", True),
        ("cifar10", True),
        ("a:*.*.*", True),
    ],
)
def test_data_sets_that_bring_code_must_be_named_by_the_user(dataset, allowed, write, tmp_path):
    saved = write("config.gin", f"Data.dataset = {dataset!r}\n")
    starts = (
        [f"--model_dir={tmp_path}"],
        [f"--gin_file={saved}"],
        ["--mode=probe", f"--checkpoint={tmp_path}", "--model_dir=new"],
    )
    for start in starts:
        if not allowed:
            message = error_of(*start)
            assert message == (
                f"dataset {dataset!r} is downloaded together with code that it runs, and only "
                f"{saved} names it: if you trust it, give it as --dataset"
            )
            parse(*start, "--dataset=cifar10")
        for ours in (f"--dataset={dataset}", f"--gin_bindings=Data.dataset = {dataset!r}"):
            assert parse(*start, ours).config.data.dataset == dataset
        if allowed:
            assert parse(*start).config.data.dataset == dataset


def test_a_teacher_named_only_by_the_saved_settings_is_reported(write, tmp_path, capsys):
    write("config.gin", "Training.train_mode = 'distill'\nDistill.teacher = 'somewhere'\n")
    flags.parse_or_exit(["run.py", f"--model_dir={tmp_path}"])
    assert "They name the teacher 'somewhere', a SavedModel" in capsys.readouterr().err
    for quiet in (["--teacher=somewhere"], ["--mode=predict", "--images=x"]):
        flags.parse_or_exit(["run.py", f"--model_dir={tmp_path}", *quiet])
        assert "They name" not in capsys.readouterr().err


def test_gin_takes_ints_for_floats():
    config = parse("--gin_bindings=Optimizer.learning_rate = 1").config
    assert type(config.optimizer.learning_rate) is float


def test_error_in_an_included_file_names_that_file(write):
    inner = write("inner.gin", "Loss.temprature = 0.5\n")
    outer = write("outer.gin", f"include '{inner}'\n")
    assert error_of(f"--gin_file={outer}").startswith(f"{inner} line 1: unknown setting")


def test_parse_or_exit(capsys):
    with pytest.raises(SystemExit) as exit_:
        flags.parse_or_exit(["/somewhere/run.py", "--temperature=-1"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("run.py: temperature must be greater than 0, got -1.0\n")
    with pytest.raises(SystemExit):
        flags.parse_or_exit(["run.py", "--strategy=multi_worker", "--temperature=-1"])
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("This worker has not joined the cluster. If other")
    flags.parse_or_exit(["run.py"])
    assert capsys.readouterr().err == f"Settings start from {flags.DEMO}\n"


# --- No TensorFlow.


def test_configuration_does_not_import_tensorflow(repo_root):
    code = (
        "import sys; from tf_simclr.cli import flags, help; "
        "flags.parse(['run.py', '--gin_file=cifar10_resnet50']); help.format_help(); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=repo_root,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
    )
