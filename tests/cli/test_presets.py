"""Every file in gin/ can be read from any directory, and its head says how to run it."""

import re
import shlex

import pytest

from tf_simclr.cli import flags
from tf_simclr.config import Config

NAMES = sorted(path.name for path in flags.PRESETS.glob("*.gin"))
V1 = dict(
    temperature=0.1,
    optimizer="lars",
    train_batch_size=4096,
    image_size=224,
    dataset="imagenet2012",
    warmup_epochs=10.0,
)
CIFAR = dict(
    dataset="cifar10",
    image_size=32,
    eval_split="test",
    temperature=0.5,
    use_blur=False,
    color_jitter_strength=0.5,
    learning_rate=1.0,
    train_epochs=1000,
)
HEADLESS = "(?!global_step|(?:.*/|^)Momentum|head)"
FINETUNE = dict(
    train_mode="finetune",
    fine_tune_after_block=-1,
    zero_init_logits_layer=True,
    weight_decay=0.0,
    warmup_epochs=0.0,
    resnet_depth=50,
    train_split="train",
    from_scratch=False,
)
FINETUNE_V1 = FINETUNE | dict(
    optimizer="momentum",
    momentum=0.9,
    learning_rate=0.05,
    learning_rate_scaling="linear",
    train_batch_size=4096,
    num_proj_layers=2,
    ft_proj_selector=0,
    variable_schema=HEADLESS,
    image_size=224,
    eval_split="validation",
    label_fraction=1.0,
)
FINETUNE_V2 = FINETUNE | dict(
    optimizer="lars",
    learning_rate=0.005,
    learning_rate_scaling="sqrt",
    train_batch_size=1024,
    num_proj_layers=3,
    ft_proj_selector=1,
    image_size=224,
    eval_split="validation",
    variable_schema="(?!global_step|(?:.*/|^)Momentum|head_supervised)",
    label_fraction=1.0,
)
FINETUNE_CIFAR = FINETUNE_V1 | dict(
    dataset="cifar10",
    image_size=32,
    eval_split="test",
    resnet_depth=18,
    train_batch_size=128,
    num_proj_layers=3,
    cache_dataset=True,
)
SUBSETS = {
    "1pct": ("imagenet2012_subset/1pct", 0.01, 60),
    "10pct": ("imagenet2012_subset/10pct", 0.1, 30),
    "100pct": ("imagenet2012", 1.0, 30),
}
# The recipes, from the official READMEs and the papers.
EXPECTED = {
    "demo.gin": dict(dataset="shapes", eval_split="test", image_size=32, probe_summary=True),
    "cifar10_resnet18.gin": CIFAR | dict(resnet_depth=18, train_batch_size=512, weight_decay=1e-4),
    "cifar10_resnet50.gin": CIFAR
    | dict(resnet_depth=50, train_batch_size=1024, weight_decay=1e-6, num_proj_layers=2),
    "cifar10_linear_eval.gin": dict(
        train_mode="finetune",
        fine_tune_after_block=4,
        zero_init_logits_layer=True,
        variable_schema="(?!global_step|(?:.*/|^)Momentum|head)",
        global_bn=False,
        optimizer="momentum",
        learning_rate=0.1,
        weight_decay=0.0,
        train_epochs=100,
        train_batch_size=512,
        warmup_epochs=0.0,
        dataset="cifar10",
        image_size=32,
        eval_split="test",
        resnet_depth=18,
    ),
    "imagenet_resnet50_100ep.gin": V1
    | dict(train_epochs=100, learning_rate=0.075, learning_rate_scaling="sqrt", weight_decay=1e-4),
    **{
        f"imagenet_resnet50_{name}.gin": V1
        | dict(
            train_epochs=100,
            learning_rate=0.075,
            learning_rate_scaling="sqrt",
            weight_decay=1e-4,
            precision="bfloat16",
            augment_on="device",
            **more,
        )
        for name, more in (
            ("a100", dict(train_batch_size=512, jit_compile=True)),
            ("tpu", dict(train_batch_size=4096, jit_compile=False)),
        )
    },
    "imagenet_resnet50_100ep_linear.gin": V1
    | dict(train_epochs=100, learning_rate=0.3, learning_rate_scaling="linear", weight_decay=1e-6),
    **{
        f"imagenet_resnet50_1000ep_{n}x.gin": V1
        | dict(
            train_epochs=1000,
            learning_rate=0.3,
            learning_rate_scaling="linear",
            weight_decay=1e-6,
            width_multiplier=float(n),
            num_proj_layers=2,
        )
        for n in (1, 2, 4)
    },
    "simclrv2_resnet50_1x.gin": dict(
        resnet_depth=50,
        width_multiplier=1.0,
        sk_ratio=0.0,
        train_epochs=800,
        warmup_epochs=40.0,
        train_batch_size=4096,
        learning_rate=0.1,
        learning_rate_scaling="sqrt",
        weight_decay=1e-4,
        num_proj_layers=3,
        temperature=0.1,
    ),
    "imagenet_linear_eval.gin": FINETUNE_V1
    | dict(fine_tune_after_block=4, learning_rate=0.1, train_epochs=90, dataset="imagenet2012"),
    **{
        f"{prefix}_finetune_{share}.gin": settings | dict(dataset=dataset, train_epochs=epochs)
        for share, (dataset, _, epochs) in SUBSETS.items()
        for prefix, settings in (("imagenet", FINETUNE_V1), ("simclrv2", FINETUNE_V2))
    },
    **{
        f"cifar10_finetune_{share}.gin": FINETUNE_CIFAR
        | dict(label_fraction=fraction, train_epochs=epochs)
        for share, (_, fraction, epochs) in SUBSETS.items()
    },
    "simclrv2_distill_resnet50.gin": dict(
        train_mode="distill",
        optimizer="lars",
        learning_rate=0.1,
        learning_rate_scaling="sqrt",
        warmup_epochs=20.0,
        weight_decay=1e-4,
        train_batch_size=4096,
        train_epochs=400,
        distill_temperature=1.0,
        distill_label_weight=0.0,
        resnet_depth=50,
    ),
    "cifar10_distill.gin": dict(
        train_mode="distill",
        optimizer="momentum",
        learning_rate=0.2,
        weight_decay=0.0,
        train_batch_size=128,
        train_epochs=50,
        distill_temperature=1.0,
        dataset="cifar10",
        image_size=32,
        eval_split="test",
        resnet_depth=18,
        cache_dataset=True,
    ),
    "simclrv2_resnet152_3x_sk.gin": dict(
        resnet_depth=152,
        width_multiplier=3.0,
        sk_ratio=0.0625,
        train_epochs=800,
        warmup_epochs=40.0,
        train_batch_size=4096,
        learning_rate=0.1,
        learning_rate_scaling="sqrt",
        weight_decay=1e-4,
        num_proj_layers=3,
        temperature=0.1,
    ),
}


def extra(name) -> list[str]:
    """Returns the flags without which a preset cannot run."""
    return ["--teacher=a"] if EXPECTED[name].get("train_mode") == "distill" else []


def _head(name):
    """Returns the comment lines at the head of a preset, without #."""
    lines = []
    for line in (flags.PRESETS / name).read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].strip())
    return lines


def test_all_presets_are_expected():
    assert NAMES == sorted(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
def test_values(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Includes must not depend on the current directory.
    config = flags.parse(["run.py", f"--gin_file=gin/{name}", *extra(name)]).config
    values = config.to_dict()
    assert {key: values[key] for key in EXPECTED[name]} == EXPECTED[name]
    assert config != Config()
    if name == "demo.gin":  # it runs without any flag, and the same way each time
        assert values["model_dir"] == "runs/demo" and values["seed"] is not None
        return
    # These belong on the command line.
    for key in ("mode", "model_dir", "use_tpu", "master", "seed", "data_dir"):
        assert values[key] == Config().to_dict()[key]


@pytest.mark.parametrize("name", NAMES)
def test_head(name):
    head = "\n".join(_head(name))
    assert re.match(r"\S.{20,}[.]\n\n", head), "a title, then an empty line"
    for entry in ("Command:", "Data:", "Hardware:", "Result:"):
        assert f"\n{entry} " in head
    if name != "demo.gin":
        assert "\nLength: " in head
    assert "Not a published run." in head or re.search(r"Result: +published: .*\d%", head)
    if EXPECTED[name].get("train_mode") == "finetune" and name != "cifar10_linear_eval.gin":
        assert re.search(r"Protocol: .*(paper|as gin/)", head)


@pytest.mark.parametrize("name", NAMES)
def test_command_in_the_head_runs_the_file(name, tmp_path):
    text = "\n".join(_head(name)).replace("\\\n", "").replace("$DATA_DIR", str(tmp_path))
    command = re.search(rf"python (run\.py --gin_file=gin/{re.escape(name)}[^)\n]*)", text)[1]
    assert flags.parse(shlex.split(command)).base_files == (str(flags.PRESETS / name),)


@pytest.mark.parametrize("name", NAMES)
def test_steps_in_the_head_are_right(name):
    stated = re.findall(r"([\d,]+) steps", "\n".join(_head(name)))
    config = flags.parse(["run.py", f"--gin_file={name}", *extra(name)]).config
    training, data = config.training, config.data
    images = {
        "cifar10": 50_000,
        "imagenet2012": 1_281_167,
        "imagenet2012_subset/1pct": 12_811,
        "imagenet2012_subset/10pct": 128_116,
    }.get(data.dataset, 0)
    images = round(images * data.label_fraction)
    steps = training.train_steps or images * training.train_epochs // training.train_batch_size + 1
    assert [int(n.replace(",", "")) for n in stated] == [steps]
