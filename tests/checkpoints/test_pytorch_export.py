"""Exports for PyTorch: model.py gives our outputs, and the file comes back as it was."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tf_simclr.checkpoints import recognition, weights, weights_file
from tf_simclr.checkpoints.formats.pytorch import pytorch_export, pytorch_file
from tf_simclr.config import Config
from tf_simclr.models.from_config import make_model

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="the package is optional")

NETWORKS = {
    "ResNet-18": dict(resnet_depth=18, width_multiplier=0.125),
    "small stem": dict(resnet_depth=18, width_multiplier=0.125, image_size=32, num_proj_layers=2),
    "as PyTorch": dict(
        resnet_depth=34,
        width_multiplier=0.125,
        first_shortcut="identity",
        max_pool_padding="symmetric",
        input_normalization="imagenet",
        proj_head_mode="linear",
    ),
    "bottlenecks": dict(resnet_depth=50, width_multiplier=0.0625, ft_proj_selector=1),
    "selective kernels": dict(
        resnet_depth=50, width_multiplier=0.0625, sk_ratio=0.0625, ft_proj_selector=-1
    ),
    "ResNet-D": dict(resnet_depth=18, width_multiplier=0.125, sk_ratio=0.0625),
    "squeeze-and-excitation": dict(
        resnet_depth=50, width_multiplier=0.125, se_ratio=0.25, proj_head_mode="none"
    ),
    "everything": dict(
        resnet_depth=50,
        width_multiplier=0.1,
        sk_ratio=0.5,
        se_ratio=0.25,
        input_normalization="cifar10",
        num_proj_layers=1,
    ),
}


@pytest.fixture(autouse=True)
def format_is_known(monkeypatch):
    monkeypatch.setattr(weights_file, "FILE_FORMATS", (pytorch_file,))


def model_with_values(settings, num_classes=3):
    """A model whose variables are all different from their initial values."""
    model = make_model(Config().replace(**settings, seed=1), num_classes)
    generator = np.random.default_rng(0)
    for path, variable in model.variables_by_path().items():
        if not path.endswith("kernel"):
            low, high = (0.5, 1.5) if path.endswith(("gamma", "variance")) else (-0.5, 0.5)
            variable.assign(generator.uniform(low, high, variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory):
    settings = NETWORKS[request.param]
    model = model_with_values(settings)
    directory = tmp_path_factory.mktemp("exported")
    pytorch_export.write(model, str(directory))
    return settings, model, directory


def test_the_file_comes_back_bit_by_bit(exported):
    settings, model, directory = exported
    path = str(directory / "model.safetensors")
    stored = weights_file.open_weights(path)
    config = recognition.fit(Config().replace(mode="predict", seed=2), stored, path=path)
    hidden = {"max_pool_padding", "input_normalization"} & settings.keys()
    assert all(config.to_dict()[name] == settings[name] for name in hidden)
    again = make_model(config, stored.num_classes)
    report = weights.restore_weights(again, path)
    assert not report.missing and not report.skipped
    assert stored.shapes.keys() == model.variables_by_path().keys()
    for name, variable in model.variables_by_path().items():
        np.testing.assert_array_equal(again.variables_by_path()[name], variable)
    batch = np.random.default_rng(0).uniform(size=(2, 40, 40, 3)).astype(np.float32)
    ours, others = model(batch, training=False), again(batch, training=False)
    for name in ours:
        np.testing.assert_array_equal(ours[name], others[name])


PROGRAM = """
import sys, numpy, torch
sys.path.insert(0, sys.argv[1])
import model
network = model.load(sys.argv[1] + "/model.safetensors")
for side in (64, 65):
    images = torch.from_numpy(numpy.load(sys.argv[1] + f"/{side}.npy")).permute(0, 3, 1, 2)
    with torch.no_grad():
        endpoints = {name: value.numpy() for name, value in network(images).items()}
    numpy.savez(sys.argv[1] + f"/{side}.npz", **endpoints)
network.train()
network(images)["proj_head_output"].sum().backward()
assert all(p.grad is not None for n, p in network.named_parameters() if n.startswith("layer"))
"""


def test_model_py_gives_our_outputs(exported):
    """In a process without this package. At an even size and at an odd one."""
    pytest.importorskip("torch", reason="model.py needs torch")
    _, model, directory = exported
    generator = np.random.default_rng(0)
    batches = {side: generator.uniform(size=(3, side, side, 3)) for side in (64, 65)}
    for side, batch in batches.items():
        np.save(directory / f"{side}.npy", batch.astype(np.float32))
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)], check=True, cwd=directory, timeout=300
    )
    for side, batch in batches.items():
        theirs = np.load(directory / f"{side}.npz")
        ours = model(batch.astype(np.float32), training=False)
        for name in ("final_avg_pool", "proj_head_output", "logits_sup"):
            expected = np.asarray(ours[name])
            difference = np.abs(theirs[name] - expected).max() / np.abs(expected).max()
            assert difference < 1e-5, (name, side)


def test_torchvision_names(exported):
    """ResNets without selective kernels have torchvision's names, and timm's for the gates."""
    settings, _, directory = exported
    tensors = safetensors_numpy.load_file(directory / "model.safetensors")
    others = {name.split(".")[0] for name in tensors if "layer" not in name.split(".")[0]}
    expected = {"conv1", "bn1", "fc", "projection_head"}
    if settings.get("ft_proj_selector"):
        expected = expected - {"fc"} | {"head_supervised"}
    if settings.get("proj_head_mode") == "none":
        expected.remove("projection_head")
    if settings.get("sk_ratio"):
        expected.add("stem")
    assert others == expected
    assert ("layer1.0.se.fc1.weight" in tensors) == ("se_ratio" in settings)
    assert "layer2.0.downsample.0.weight" in tensors


def test_the_program_is_the_same_for_each_network_and_has_only_numbers_beside_it(exported):
    _, _, directory = exported
    assert (directory / "model.py").read_text() == pytorch_export.pytorch_module.MODULE
    assert sorted(p.name for p in directory.iterdir() if p.suffix in (".py", ".safetensors")) == [
        "model.py",
        "model.safetensors",
    ]
    with open(directory / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert set(header["__metadata__"]) == {"format", "tf_simclr"}
