"""Settings: the official flags, the checks of values and the rules between settings."""

import dataclasses
import math
import re
import types

import pytest

from tf_simclr import config as config_lib
from tf_simclr.config import RULES, Config, check, choices, settings
from tf_simclr.errors import ConfigError
from tf_simclr.models import resnet

# Name, type, default and choices of the official code's flags. use_tpu and cache_dataset differ.
OFFICIAL = """
    learning_rate float 0.3
    learning_rate_scaling str linear linear,sqrt
    warmup_epochs float 10
    weight_decay float 1e-6
    batch_norm_decay float 0.9
    train_batch_size int 512
    train_split str train
    train_epochs int 100
    train_steps int 0
    eval_steps int 0
    eval_batch_size int 256
    checkpoint_epochs int 1
    checkpoint_steps int 0
    eval_split str validation
    dataset str imagenet2012
    mode str train train,eval,train_then_eval
    train_mode str pretrain pretrain,finetune
    lineareval_while_pretraining bool True
    checkpoint str None
    zero_init_logits_layer bool False
    fine_tune_after_block int -1
    master str None
    model_dir str None
    data_dir str None
    tpu_name str None
    tpu_zone str None
    gcp_project str None
    optimizer str lars momentum,adam,lars
    momentum float 0.9
    eval_name str None
    keep_checkpoint_max int 5
    keep_hub_module_max int 1
    temperature float 0.1
    hidden_norm bool True
    proj_head_mode str nonlinear none,linear,nonlinear
    proj_out_dim int 128
    num_proj_layers int 3
    ft_proj_selector int 0
    global_bn bool True
    width_multiplier float 1
    resnet_depth int 50
    sk_ratio float 0
    se_ratio float 0
    image_size int 224
    color_jitter_strength float 1.0
    use_blur bool True
    train_summary_steps int 100
    variable_schema str None
"""
OFFICIAL = [line.split() for line in OFFICIAL.strip().splitlines()]
OURS = {
    "best_metric",
    "monitor_every_epochs",
    "monitor_images",
    "stop_after",
    "use_tpu",
    "cache_dataset",
    "color_jitter_impl",
    "frozen_batch_norm",
    "max_pool_padding",
    "input_normalization",
    "first_shortcut",
    "eval_timeout",
    "probe_summary",
    "seed",
    "cpu_replicas",
    "data_service",
    "strategy",
    "strict_data",
    "from_scratch",
    "eval_every_epochs",
    "label_fraction",
    "label_seed",
    "teacher",
    "distill_temperature",
    "distill_label_weight",
    "probe_baselines",
    "probe_validation_split",
    "unlabelled",
    "images",
    "output",
    "loss_block_rows",
    "microbatch_size",
    "augment_on",
    "precision",
    "fused_batch_norm",
    "jit_compile",
    "profile_steps",
    "image_range",
    "max_megapixels",
    "image_key",
    "label_key",
}


@pytest.mark.parametrize("row", OFFICIAL, ids=lambda row: row[0])
def test_official_flag(row):
    name, type_name, default, *choices = row
    spec = settings()[name]
    assert [t.__name__ for t in spec.types] == [type_name]
    if default == "None":
        assert spec.default is None and spec.optional
    else:
        assert spec.default == {
            "bool": lambda v: v == "True",
            "str": str,
            "int": int,
            "float": float,
        }[type_name](default)
        assert type(spec.default).__name__ == type_name and not spec.optional
    if choices:
        official = tuple(choices[0].split(","))
        assert spec.choices[: len(official)] == official  # ours follow


def test_no_other_settings():
    assert set(settings()) == {row[0] for row in OFFICIAL} | OURS


def test_our_settings():
    ours = {name: (settings()[name].default, settings()[name].choices) for name in OURS}
    assert ours == {
        "use_tpu": ("auto", (True, False, "auto")),
        "cache_dataset": ("auto", (True, False, "auto")),
        "color_jitter_impl": ("simclrv2", ("simclrv2", "simclrv1")),
        "frozen_batch_norm": ("inference", ("inference", "training")),
        "max_pool_padding": ("same", ("same", "symmetric")),
        "input_normalization": ("none", ("none", "imagenet", "cifar10")),
        "first_shortcut": ("projection", ("projection", "identity")),
        "eval_timeout": (0.0, ()),
        "probe_summary": (False, ()),
        "seed": (None, ()),
        "cpu_replicas": (1, ()),
        "data_service": (None, ()),
        "image_range": (None, ()),
        "strategy": ("auto", ("auto", "multi_worker")),
        "strict_data": (False, ()),
        "from_scratch": (False, ()),
        "eval_every_epochs": (0.0, ()),
        "best_metric": (None, choices.BEST_METRICS),
        "stop_after": (0, ()),
        "monitor_images": (1024, ()),
        "monitor_every_epochs": (0.0, ()),
        "label_fraction": (1.0, ()),
        "label_seed": (0, ()),
        "teacher": (None, ()),
        "distill_temperature": (1.0, ()),
        "distill_label_weight": (0.0, ()),
        "probe_baselines": (False, ()),
        "probe_validation_split": (None, ()),
        "unlabelled": (False, ()),
        "images": (None, ()),
        "output": ("predictions.csv", ()),
        "loss_block_rows": (0, ()),
        "microbatch_size": (0, ()),
        "augment_on": ("auto", ("auto", "device", "host")),
        "precision": ("float32", ("float32", "bfloat16", "float16")),
        "fused_batch_norm": (True, ()),
        "jit_compile": (False, ()),
        "profile_steps": (None, ()),
        "max_megapixels": (256, ()),
        "image_key": (None, ()),
        "label_key": (None, ()),
    }


def test_names_are_unique_across_sections_and_have_help():
    fields = [f.name for section in config_lib.SECTIONS for f in dataclasses.fields(section)]
    assert len(fields) == len(set(fields)) == len(settings())
    for spec in settings().values():
        assert spec.help.endswith(".") and len(spec.help) > 10, spec.name


def test_settings_of_a_single_start_are_not_saved():
    assert {n for n, s in settings().items() if not s.saved} == {
        "mode",
        "model_dir",
        "use_tpu",
        "tpu_name",
        "tpu_zone",
        "gcp_project",
        "master",
        "cpu_replicas",
        "data_service",
        "strategy",
        "images",
        "output",
        "jit_compile",
        "profile_steps",
    }


def test_defaults_pass():
    check(Config())


def test_items_and_dict():
    config = Config()
    assert ("Loss", "temperature", 0.1) in list(config.items())
    assert list(config.to_dict()) == list(settings())
    assert config.to_dict()["optimizer"] == "lars"


def test_replace_leaves_the_original():
    config = Config()
    changed = config.replace(temperature=0.5, optimizer="adam", learning_rate=1)
    assert (changed.loss.temperature, changed.optimizer.optimizer) == (0.5, "adam")
    assert type(changed.optimizer.learning_rate) is float
    assert config == Config() and changed.optimizer.momentum == config.optimizer.momentum
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.loss.temperature = 1.0


def test_replace_unknown_name():
    with pytest.raises(ConfigError, match="unknown setting temprature; did you mean temperature"):
        Config().replace(temprature=0.5)


BAD_VALUES = [
    ("output", "a.txt", "must be a file that ends in .csv, .parquet or .npy, got 'a.txt'"),
    # Types.
    ("temperature", "abc", "must be a float, got 'abc'"),
    ("temperature", None, "must be a float, got None"),
    ("temperature", True, "must be a float, got True"),
    ("train_batch_size", 512.0, "must be an int, got 512.0"),
    ("train_batch_size", True, "must be an int, got True"),
    ("use_blur", 1, "must be True or False, got 1"),
    ("dataset", None, "must be a string, got None"),
    ("seed", 1.5, "must be an int or None, got 1.5"),
    ("use_tpu", 1, "must be True or False or a string, got 1"),
    # Not finite.
    ("learning_rate", math.nan, "must be a finite number, got nan"),
    ("weight_decay", math.inf, "must be a finite number, got inf"),
    # Choices.
    ("resnet_depth", 51, "must be one of 18, 34, 50, 101, 152, 200, got 51"),
    ("optimizer", "sgd", "must be one of momentum, adam, lars, lamb, got 'sgd'"),
    ("use_tpu", "maybe", "must be one of True, False, auto, got 'maybe'"),
    ("frozen_batch_norm", "", "must be one of inference, training, got ''"),
    # Ranges.
    ("temperature", 0.0, "must be greater than 0, got 0.0"),
    ("learning_rate", 0, "must be greater than 0, got 0"),
    ("learning_rate", -0.1, "must be greater than 0, got -0.1"),
    ("width_multiplier", 0.0, "must be greater than 0"),
    ("image_size", 7, "must be at least 8, got 7"),
    ("color_jitter_strength", -1.0, "must be at least 0"),
    ("sk_ratio", 1.1, "must be between 0 and 1"),
    ("se_ratio", -0.1, "must be between 0 and 1"),
    ("batch_norm_decay", 1.0, "must be greater than 0 and less than 1"),
    ("batch_norm_decay", 0.0, "must be greater than 0 and less than 1"),
    ("momentum", 1.0, "must be at least 0 and less than 1"),
    ("weight_decay", -1e-6, "must be at least 0"),
    ("warmup_epochs", -1.0, "must be at least 0"),
    ("proj_out_dim", 0, "must be at least 1"),
    ("num_proj_layers", 0, "must be at least 1"),
    ("fine_tune_after_block", 5, "must be between -1 and 4"),
    ("fine_tune_after_block", -2, "must be between -1 and 4"),
    ("train_batch_size", 0, "must be at least 1"),
    ("eval_batch_size", 0, "must be at least 1"),
    ("train_epochs", -1, "must be at least 0"),
    ("train_steps", -1, "must be at least 0"),
    ("eval_steps", -1, "must be at least 0"),
    ("checkpoint_epochs", -1, "must be at least 0"),
    ("checkpoint_steps", -1, "must be at least 0"),
    ("train_summary_steps", -1, "must be at least 0"),
    ("keep_checkpoint_max", 0, "must be at least 1"),
    ("keep_hub_module_max", 0, "must be at least 1"),
    ("eval_timeout", -1.0, "must be at least 0"),
    ("seed", -1, "must be between 0 and"),
    ("dataset", "", "must be not empty"),
    ("train_split", "", "must be not empty"),
    ("eval_split", "", "must be not empty"),
    ("variable_schema", "(?!head", "must be a valid regular expression, got '(?!head'"),
    ("data_dir", "no/such/folder", "must be an existing directory, or a URL"),
]


@pytest.mark.parametrize("name,value,message", BAD_VALUES)
def test_bad_value(name, value, message):
    with pytest.raises(ConfigError) as error:
        check(_with_raw_value(name, value))
    assert str(error.value).startswith(f"{name} {message}")
    assert "\n" not in str(error.value)


def _with_raw_value(name, value):
    """Replaces a value without converting it: the message names what was written."""
    config = Config().replace(**{name: value})
    object.__setattr__(getattr(config, settings()[name].section.lower()), name, value)
    return config


GOOD_VALUES = [
    dict(width_multiplier=0.25),
    dict(width_multiplier=2),
    dict(weight_decay=0.0),
    dict(sk_ratio=0.0625, resnet_depth=18),
    dict(image_size=8),
    dict(use_tpu=True),
    dict(use_tpu=False),
    dict(seed=0),
    dict(data_dir="gs://bucket/data"),
    dict(data_dir="."),
    dict(variable_schema="(?!global_step|(?:.*/|^)Momentum|head)"),
    dict(checkpoint="anywhere"),
    dict(train_summary_steps=0),
    dict(train_epochs=0, train_steps=1),
    dict(checkpoint_epochs=0, checkpoint_steps=1),
    dict(lineareval_while_pretraining=False, mode="train_then_eval"),
    dict(train_mode="finetune", train_batch_size=1),
    dict(mode="eval", model_dir="anywhere"),
    dict(train_mode="finetune", fine_tune_after_block=4),
    dict(ft_proj_selector=3),
    dict(ft_proj_selector=-1),
    dict(num_proj_layers=1, ft_proj_selector=1),
    dict(proj_head_mode="none", ft_proj_selector=-1),
    dict(proj_head_mode="linear", ft_proj_selector=1),
]


@pytest.mark.parametrize("values", GOOD_VALUES, ids=str)
def test_good_value(values):
    check(Config().replace(**values))


BAD_COMBINATIONS = [
    (
        dict(best_metric="eval/label_top_1_accuracy"),
        "best_metric must be a monitor/ metric with eval_every_epochs=0, got 'eval/",
    ),
    (
        dict(best_metric="monitor/rankme", train_mode="finetune", checkpoint="runs/x"),
        "best_metric must be an eval/ metric with train_mode=finetune, got 'monitor/",
    ),
    (
        dict(best_metric="monitor/rankme", monitor_images=0),
        "best_metric must be an eval/ metric with monitor_images=0, got 'monitor/rankme'",
    ),
    (
        dict(stop_after=3),
        "stop_after must be 0 with neither best_metric nor eval_every_epochs, got 3",
    ),
    (
        dict(fine_tune_after_block=2),
        "fine_tune_after_block must be -1 with train_mode=pretrain, got 2",
    ),
    (
        dict(train_batch_size=1),
        "train_batch_size must be at least 2 with train_mode=pretrain, got 1",
    ),
    (
        dict(ft_proj_selector=4),
        "ft_proj_selector must be between -1 and 3 with proj_head_mode=nonlinear, got 4",
    ),
    (dict(ft_proj_selector=-2), "ft_proj_selector must be between -1 and 3"),
    (
        dict(ft_proj_selector=2, proj_head_mode="linear"),
        "ft_proj_selector must be between -1 and 1",
    ),
    (dict(ft_proj_selector=1, proj_head_mode="none"), "ft_proj_selector must be between -1 and 0"),
    (dict(train_mode="distill"), "teacher must be given with train_mode=distill, got None"),
    (
        dict(teacher="runs/x", train_mode="finetune"),
        "teacher must be unset with train_mode=finetune, got 'runs/x'",
    ),
    (dict(images="x"), "images must be unset with mode=train, got 'x'"),
    (dict(mode="predict", model_dir="x"), "images must be given with mode=predict, got None"),
    (
        dict(mode="predict", images="x"),
        "checkpoint must be given with mode=predict and no model_dir, got None",
    ),
    (
        dict(strategy="multi_worker", mode="predict", images="x", model_dir="x"),
        "strategy must be auto with mode=predict",
    ),
    (dict(mode="probe"), "model_dir must be given with mode=probe"),
    (
        dict(dataset="folder", image_key="x"),
        "image_key must be unset with dataset=folder, got 'x': it names a feature",
    ),
    (
        dict(dataset="shapes", label_key="x"),
        "label_key must be unset with dataset=shapes, got 'x': it names a feature",
    ),
    (dict(unlabelled=True), "unlabelled must be False with dataset=imagenet2012, got True"),
    (dict(dataset="folder", data_service="grpc://a:1"), "data_service must be unset with dataset="),
    (dict(label_fraction=0.1), "label_fraction must be 1 with train_mode=pretrain, got 0.1"),
    (dict(from_scratch=True), "from_scratch must be False with train_mode=pretrain, got True"),
    (
        dict(from_scratch=True, train_mode="finetune", checkpoint="runs/x"),
        "from_scratch must be False with checkpoint=runs/x, got True",
    ),
    (
        dict(first_shortcut="identity"),
        "first_shortcut must be projection with resnet_depth=50, got 'identity'",
    ),
    (dict(train_epochs=0), "train_epochs must be at least 1 with train_steps=0, got 0"),
    (dict(checkpoint_epochs=0), "checkpoint_epochs must be at least 1 with checkpoint_steps=0"),
    (dict(mode="eval"), "model_dir must be given with mode=eval"),
    (
        dict(strategy="multi_worker", mode="eval", model_dir="x"),
        "strategy must be auto with mode=eval, got 'multi_worker'",
    ),
    (dict(strategy="multi_worker", cpu_replicas=2), "strategy must be auto with cpu_replicas"),
    (dict(strategy="multi_worker", use_tpu=True), "strategy must be auto with use_tpu"),
    (
        dict(mode="eval", model_dir="x", lineareval_while_pretraining=False),
        "lineareval_while_pretraining must be True with mode=eval and train_mode=pretrain, got "
        "False: there is no supervised head to evaluate",
    ),
]


def test_each_rule_is_broken_by_one_of_these_combinations():
    broken = set()
    for values, _ in BAD_COMBINATIONS:
        flat = types.SimpleNamespace(**Config().replace(**values).to_dict())
        broken.add(next(rule for rule in RULES if rule.is_broken(flat)))
    assert broken == set(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.setting)
def test_a_rule_names_settings_and_is_a_sentence(rule):
    assert rule.setting in settings()
    sentence = rule.sentence()
    assert re.fullmatch(r"Must be [^{}]+ with [^{}]+\.", sentence)
    message = rule.message(Config())
    assert message.startswith(f"{rule.setting} must be ") and not set("{}\n") & set(message)


def test_each_list_of_choices_is_that_of_a_setting():
    lists = {n: v for n, v in vars(choices).items() if isinstance(v, tuple)}
    assert set(lists.values()) == {s.choices for s in settings().values() if s.choices}
    assert set(resnet.BLOCKS_PER_GROUP) == set(choices.RESNET_DEPTHS)


@pytest.mark.parametrize("values,message", BAD_COMBINATIONS)
def test_bad_combination(values, message):
    with pytest.raises(ConfigError) as error:
        check(Config().replace(**values))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
