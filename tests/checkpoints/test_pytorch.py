"""Files of PyTorch: networks of other programs give the same outputs here."""

import json
import re

import numpy as np
import pytest

from tf_simclr.checkpoints import recognition, weights, weights_file
from tf_simclr.checkpoints.formats.pytorch import pytorch_file
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.models import resnet
from tf_simclr.models.from_config import make_model

torch = pytest.importorskip("torch", reason="reading .pth needs torch")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the package is optional")
from tests.torch_resnet import ResNet, randomize  # noqa: E402  (it needs torch)

nn = torch.nn


@pytest.fixture(autouse=True)
def format_is_known(monkeypatch):
    monkeypatch.setattr(weights_file, "FILE_FORMATS", (pytorch_file,))


@pytest.fixture(scope="module")
def network():
    return randomize(ResNet(18))


def save(content, path) -> str:
    if path.suffix == ".safetensors":
        safetensors_torch.save_file(content, path)
    else:
        torch.save(content, path)
    return str(path)


def opened(content, tmp_path, **arguments):
    # The tensors stay in the file until they are read, so each file has its own name.
    number = len(list(tmp_path.iterdir()))
    return pytorch_file.open(save(content, tmp_path / f"{number}.pth"), **arguments)


def our_model(path, **settings):
    stored = weights_file.open_weights(path)
    config = recognition.fit(Config().replace(mode="predict", seed=1), stored, path=path)
    config = config.replace(**settings)
    model = make_model(config, stored.num_classes)
    report = weights.restore_weights(model, path)
    assert not report.missing and not report.skipped
    return config, model


def relative_difference(ours, theirs) -> float:
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def images(side, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(3, side, side, 3)).astype(np.float32)


def torch_images(images, kind):
    mean, deviation = np.float32(resnet.NORMALIZATIONS[kind])
    return torch.from_numpy(((images - mean) / deviation).transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("depth, small_stem", [(18, False), (34, True), (50, False)])
def test_outputs_are_those_of_pytorch(tmp_path, depth, small_stem, suffix):
    """At an even size, where TensorFlow's own padding of max pooling would differ."""
    theirs = randomize(ResNet(depth, small_stem=small_stem))
    path = save(theirs.state_dict(), tmp_path / f"file.{suffix}")
    config, ours = our_model(path)
    assert config.model.resnet_depth == depth and config.model.width_multiplier == 0.125
    assert config.model.first_shortcut == ("projection" if depth == 50 else "identity")
    assert config.model.max_pool_padding == "symmetric"
    kind = "cifar10" if small_stem else "imagenet"
    assert config.model.input_normalization == kind
    batch = images(32 if small_stem else 64)
    endpoints = ours(batch, training=False)
    features, logits = theirs(torch_images(batch, kind))
    assert relative_difference(endpoints["final_avg_pool"], features) < 1e-5
    assert relative_difference(endpoints["logits_sup"], logits) < 1e-5
    if not small_stem:
        _, same = our_model(path, max_pool_padding="same")
        other = same(batch, training=False)["final_avg_pool"]
        assert relative_difference(other, features) > 1e-3


def lightly(network):
    """Lightly numbers the children of the backbone."""
    children = [network.conv1, network.bn1, network.relu, network.maxpool]
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    module = nn.Module()
    module.backbone = nn.Sequential(*children, *layers, network.avgpool)
    return module.state_dict()


def prefixed(network, prefix):
    return {prefix + name: value for name, value in network.state_dict().items()}


def lightly_cifar(network):
    """Lightly's own ResNet calls the projection `shortcut`, and has no max pooling."""
    children = [network.conv1, network.bn1]
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    state = prefixed(nn.Sequential(*children, *layers), "backbone.")
    return {name.replace("downsample", "shortcut"): value for name, value in state.items()}


def vissl(network):
    trunk = {f"_feature_blocks.{name}": value for name, value in network.state_dict().items()}
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": torch.ones(3, 9)}}
    return {"classy_state_dict": {"base_model": {"model": model}}, "phase_idx": 3}


SCHEMES = {
    "lightly": lightly,
    "lightly's own ResNet": lightly_cifar,
    "solo-learn": lambda n: {"state_dict": prefixed(n, "backbone."), "epoch": 3},
    "old solo-learn": lambda n: {"state_dict": prefixed(n, "encoder.")},
    "VISSL": vissl,
    "several GPUs": lambda n: prefixed(n, "module."),
    "compiled": lambda n: {"model": prefixed(n, "_orig_mod.module.")},
    "with an optimizer": lambda n: {
        "model": n.state_dict(),
        "optimizer": torch.optim.SGD(n.parameters(), 0.1, momentum=0.9).state_dict(),
    },
    "half precision": lambda n: {k: v.half() for k, v in n.state_dict().items()},
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_naming_schemes(network, tmp_path, scheme):
    plain = opened(network.state_dict(), tmp_path)
    stored = opened(SCHEMES[scheme](network), tmp_path)
    backbone = {path: shape for path, shape in plain.shapes.items() if path.startswith("base")}
    assert {p: s for p, s in stored.shapes.items() if p.startswith("base")} == backbone
    tolerance = 1e-3 if scheme == "half precision" else 0
    for path in backbone:
        np.testing.assert_allclose(stored.read(path), plain.read(path), rtol=tolerance, atol=1e-6)
    recognition.fit(Config().replace(mode="predict"), stored, path="x")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_safetensors_become_float32(network, tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in network.state_dict().items()}
    stored = pytorch_file.open(save(state, tmp_path / "file.safetensors"))
    value = stored.read("base_model/block_group2/block1/conv1/kernel")
    expected = state["layer2.0.conv1.weight"].float().numpy().transpose(2, 3, 1, 0)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, expected)


def test_several_networks_need_a_prefix(network, tmp_path):
    teacher = randomize(ResNet(18), seed=1)
    content = {"state_dict": prefixed(network, "q.net.") | prefixed(teacher, "k.net.")}
    with pytest.raises(
        ConfigError,
        match="2 networks.*'state_dict.k.net', 'state_dict.q",
    ):
        opened(content, tmp_path)
    path = "base_model/stem/conv/bn/gamma"
    for prefix, chosen in (("state_dict.k.net", teacher), ("state_dict.q.", network)):
        stored = opened(content, tmp_path, prefix=prefix)
        np.testing.assert_array_equal(stored.read(path), chosen.bn1.weight.detach())
        assert stored.num_classes == 5
    with pytest.raises(ConfigError, match="no ResNet.*below the prefix 'q'"):
        opened(content, tmp_path, prefix="q")


def test_the_stem_with_two_networks_of_which_one_has_no_prefix(network, tmp_path):
    content = network.state_dict() | prefixed(network, "teacher.")
    with pytest.raises(ConfigError, match="2 networks.*'', 'teacher'"):
        opened(content, tmp_path)


def changed(change):
    def state(network):
        state = dict(network.state_dict())
        change(state)
        return state

    return state


DIFFERENT = {
    "grouped convolutions": (
        changed(lambda s: s.update({"layer1.0.conv2.weight": torch.ones(8, 4, 3, 3)})),
        r"'layer1.0.conv2.weight' has shape \(8, 4, 3, 3\), not \(8, 8, 3, 3\)",
    ),
    "a deep stem": (
        changed(
            lambda s: s.update(
                {"conv1.0.weight": s.pop("conv1.weight"), "conv1.1.weight": s["bn1.weight"]}
            )
        ),
        "also has 'conv1.0.weight'; it lacks 'conv1.weight'",
    ),
    "blurred strides": (
        changed(lambda s: s.update({"layer2.0.conv1.aa.filt": torch.ones(8, 1, 3, 3)})),
        "also has 'layer2.0.conv1.aa.filt'",
    ),
    "a missing variable": (
        changed(lambda s: s.pop("layer3.1.bn2.running_var")),
        "lacks 'layer3.1.bn2.running_var'",
    ),
    "a missing block": (
        changed(lambda s: [s.pop(k) for k in list(s) if k.startswith("layer3.0.")]),
        "lacks 'layer3.0",
    ),
    "an odd stem": (
        changed(lambda s: s.update({"conv1.weight": torch.ones(8, 3, 5, 5)})),
        r"\(8, 3, 5, 5\), not \(8, 3, 7, 7\)",
    ),
    "one channel": (
        changed(lambda s: s.update({"conv1.weight": torch.ones(8, 1, 7, 7)})),
        r"\(8, 1, 7, 7\), not \(8, 3, 7, 7\)",
    ),
    "three groups": (
        changed(lambda s: [s.pop(k) for k in list(s) if k.startswith("layer4.")]),
        "no ResNet with four groups",
    ),
    "no network": (lambda n: {"a": torch.ones(3), "b": 3}, "tensors are called 'a'"),
    "nothing": (lambda n: {}, "called nothing"),
    "a list": (lambda n: [torch.ones(3)], "called nothing"),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_networks_that_are_not_ours(network, tmp_path, kind):
    content, message = DIFFERENT[kind]
    with pytest.raises(ConfigError, match=message) as error:
        opened(content(network), tmp_path)
    assert "\n" not in str(error.value)


def test_a_wide_bottleneck_is_no_width_multiplier(tmp_path):
    state = dict(ResNet(50).state_dict())
    for name in state:
        if "conv3.weight" in name or "downsample.0" in name:
            state[name] = state[name][: state[name].shape[0] // 2]
    with pytest.raises(ConfigError, match=r"conv3.weight' has shape \(16, 8, 1, 1\), not \(32"):
        opened(state, tmp_path)


def head(*layers, name="projection_head.layers"):
    return lambda n: lightly(n) | prefixed(randomize(nn.Sequential(*layers), seed=2), name + ".")


def batch_norm(width, **settings):
    return nn.BatchNorm1d(width, **settings)


HEADS = {
    "lightly": [nn.Linear(64, 64, bias=False), batch_norm(64), nn.ReLU()]
    + [nn.Linear(64, 16, bias=False), batch_norm(16)],
    "biases": [nn.Linear(64, 64), batch_norm(64), nn.ReLU(), nn.Linear(64, 64), batch_norm(64)]
    + [nn.ReLU(), nn.Linear(64, 16), batch_norm(16, affine=False)],
    "linear": [nn.Linear(64, 16, bias=False), batch_norm(16)],
}


@pytest.mark.parametrize("kind", HEADS)
def test_projection_heads(network, tmp_path, kind):
    theirs = randomize(nn.Sequential(*HEADS[kind]), seed=2)
    path = save(head(*HEADS[kind])(network), tmp_path / "file.pth")
    config, ours = our_model(path)
    batch = images(64)
    endpoints = ours(batch, training=False)
    features, _ = network(torch_images(batch, "imagenet"))
    assert relative_difference(endpoints["proj_head_output"], theirs(features)) < 1e-5
    notes = " ".join(pytorch_file.open(path).notes)
    assert ("not while training" in notes) == (kind != "biases")


@pytest.mark.parametrize(
    "layers, reason",
    [
        ([nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)], "after each linear layer"),
        ([nn.Linear(64, 64), batch_norm(64), nn.Linear(64, 16), batch_norm(16)], "ReLU between"),
        (
            [nn.Linear(64, 32), batch_norm(32), nn.ReLU(), nn.Linear(32, 8), batch_norm(8)],
            "64 wide",
        ),
        ([nn.Linear(32, 16), batch_norm(16)], "64 wide"),
    ],
    ids=["MoCo", "no ReLU", "narrow", "other input"],
)
def test_other_heads_are_left_out_with_a_note(network, tmp_path, layers, reason):
    stored = opened(head(*layers)(network), tmp_path)
    assert not any(path.startswith("head_contrastive") for path in stored.shapes)
    assert any("left out" in note and reason in note for note in stored.notes)


def test_two_heads_that_fit_are_left_out(network, tmp_path):
    layers = HEADS["linear"]
    content = head(*layers)(network) | head(*layers, name="prediction_head")(network)
    stored = opened(content, tmp_path)
    assert not any(path.startswith("head_contrastive") for path in stored.shapes)
    assert any("each could be the projection head" in note for note in stored.notes)


def test_classifiers(network, tmp_path):
    """A linear layer beside the backbone counts, but none of two."""
    weight, bias = torch.ones(7, 64), torch.ones(7)
    state = lightly(network)
    one = state | {"classifier.weight": weight, "classifier.bias": bias}
    assert opened(one, tmp_path).num_classes == 7
    two = one | {"other.weight": weight, "other.bias": bias}
    stored = opened(two, tmp_path)
    assert stored.num_classes is None
    assert any("each could be the supervised head" in note for note in stored.notes)
    narrow = state | {"prototypes.weight": torch.ones(7, 16)}
    assert any("'prototypes': left out" in note for note in opened(narrow, tmp_path).notes)


def test_settings_of_pytorch_lightning_are_ignored(network, tmp_path):
    """They are objects of other packages. Their code does not run, and the tensors are read."""
    import argparse
    import collections
    import pathlib

    content = {
        "state_dict": network.state_dict(),
        "hyper_parameters": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x")),
        "callbacks": collections.defaultdict(dict, {}),
    }
    assert opened(content, tmp_path).num_classes == 5


def test_notes_say_what_was_assumed(network, tmp_path):
    notes = opened(network.state_dict(), tmp_path).notes
    assert any("input_normalization=imagenet" in note for note in notes)
    small = opened(ResNet(18, small_stem=True).state_dict(), tmp_path).notes
    assert any("input_normalization=cifar10" in note for note in small)
    assert any("solo-learn's stem" in note for note in small)


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    "content, kind, note",
    [
        ({"architecture": "resnet18", "pretrained_cfg": IMAGENET}, "imagenet", None),
        ({"architecture": "resnet18", **IMAGENET}, "imagenet", None),
        ({"architecture": "resnetblur18", **IMAGENET}, "imagenet", "'resnetblur18'"),
        ({"architecture": "resnet18", **HALF}, "imagenet", r"mean \(0.5, 0.5, 0.5\) and"),
        ({"architecture": "resnet18"}, "imagenet", "is assumed"),
        ({"architecture": "resnet18", "pretrained_cfg": [], **HALF}, "imagenet", "is assumed"),
        ({"architecture": "resnet18", "mean": ["x"] * 3, "std": 3}, "imagenet", "is assumed"),
        ({"architectures": ["other"], **HALF}, "imagenet", "is assumed"),
        ([], "imagenet", "is assumed"),
    ],
)
def test_the_config_that_timm_puts_beside_the_weights(network, tmp_path, content, kind, note):
    (tmp_path / "config.json").write_text(json.dumps(content))
    stored = opened(network.state_dict(), tmp_path)
    assert stored.settings["input_normalization"] == kind
    notes = " ".join(n for n in stored.notes if "supervised head" not in n)
    assert re.search(note, notes) if note else not notes


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0"])
def test_a_damaged_config_beside_the_weights(network, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="config.json beside it is damaged") as error:
        opened(network.state_dict(), tmp_path)
    assert "\n" not in str(error.value)
