"""Files of PyTorch that are damaged or written to harm: one line, and nothing runs."""

import io
import json
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from tf_simclr.checkpoints import weights_file
from tf_simclr.checkpoints.formats.pytorch import pytorch_file, pytorch_tensors
from tf_simclr.errors import ConfigError

torch = pytest.importorskip("torch", reason="reading .pth needs torch")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the package is optional")
from tests.torch_resnet import ResNet  # noqa: E402  (it needs torch)


@pytest.fixture(autouse=True)
def format_is_known(monkeypatch):
    monkeypatch.setattr(weights_file, "FILE_FORMATS", (pytorch_file,))


@pytest.fixture(scope="module")
def state():
    return ResNet(18).state_dict()


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    """It could run code from the file in spite of weights_only."""
    torch.save({"a": torch.ones(1)}, tmp_path / "file.pth")
    monkeypatch.setattr(pytorch_tensors.importlib.metadata, "version", lambda _: "2.5.1+cpu")
    assert "needs torch 2.6 or later, and this is 2.5.1+cpu" in refused(tmp_path / "file.pth")


def refused(path) -> str:
    """The one line with which a file is refused, at whatever point."""
    with pytest.raises(ConfigError) as error:
        weights_file.open_weights(str(path))
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    assert "weights_only" not in message  # torch advises to run the file's code
    return message


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, marker, function):
        self.marker, self.function = marker, function

    def __reduce__(self):
        if self.function == "exec":
            return exec, (f"open({str(self.marker)!r}, 'w')",)
        if self.function == "numpy":
            return np.save, (self.marker, 1)
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("function", ["exec", "system", "numpy"])
def test_code_in_a_pickle_does_not_run(state, tmp_path, function, new):
    marker, path = tmp_path / "marker.npy", tmp_path / "file.pth"
    content = {"state_dict": state, "more": Runs(marker, function)}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    if function == "numpy" and new:  # settings contain NumPy's numbers, which become inert
        assert weights_file.open_weights(str(path)).num_classes == 5
    else:
        assert "whose code is not run" in refused(path)
    assert not marker.exists()
    with open(path, "rb") as file:  # the file would run it
        torch.load(file, weights_only=False)
    assert marker.exists()


def test_a_whole_module_is_named(tmp_path):
    torch.save(ResNet(18), tmp_path / "file.pth")
    message = refused(tmp_path / "file.pth")
    assert "tests.torch_resnet.ResNet, whose code is not run; save only the state_dict" in message


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.99])
def test_truncated_files(state, tmp_path, suffix, part):
    path = tmp_path / f"file.{suffix}"
    (safetensors_torch.save_file if suffix == "safetensors" else torch.save)(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "cannot be read" in refused(path)


def test_damaged_files(state, tmp_path):
    """Bytes are changed at random. Whatever is read has the shapes that were announced."""
    original = io.BytesIO()
    torch.save({k: v for k, v in state.items()}, original)
    generator = np.random.default_rng(0)
    for i in range(60):
        content = bytearray(original.getvalue())
        # The pickle is at the beginning, the directory of the zip file at the end.
        span = (0, 20_000) if i % 2 else (len(content) - 20_000, len(content))
        for position in generator.integers(*span, size=5):
            content[position] = generator.integers(256)
        path = tmp_path / f"{i}.pth"
        path.write_bytes(content)
        try:
            stored = weights_file.open_weights(str(path))
            for name, shape in stored.shapes.items():
                assert stored.read(name).shape == shape
        except ConfigError as error:
            assert "\n" not in str(error)


def safetensors_file(path, header: bytes, length=None, data=b""):
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


HEADERS = {
    "huge": (b"{}", 2**40),
    "negative": (b"{}", 2**64 - 1),
    "longer than the file": (b"{}", 10_000),
    "not JSON": (b"\xff\xfe{", None),
    "a list": (b"[]", None),
    "deep": (b"[" * 50_000, None),
    "beyond the file": (
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        None,
    ),
    "negative shape": (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', None),
    "overflow": (
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
        None,
    ),
    "nothing": (b"{}", None),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_safetensors(tmp_path, kind):
    header, length = HEADERS[kind]
    refused(safetensors_file(tmp_path / "file.safetensors", header, length))


@pytest.mark.parametrize("metadata", ["[1", "[]", '{"max_pool_padding": "x\\n"}'])
def test_metadata_of_safetensors(state, tmp_path, metadata):
    path = tmp_path / "file.safetensors"
    safetensors_torch.save_file(state, path, metadata={"tf_simclr": metadata})
    assert "cannot be read" in refused(path)


def test_a_zip_file_that_grows(state, tmp_path):
    path = tmp_path / "file.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2) + b" " * 10**7)
    assert "its parts are larger than the file" in refused(path)


def test_other_zip_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
        archive.writestr("readme.txt", "no network")
    refused(tmp_path / "file.pth")


def test_files_of_other_formats_are_not_claimed(tmp_path):
    for name in ("a.pth", "a.ckpt", "a.tar", "a.bin"):
        (tmp_path / name).write_text("no network")
        assert not pytorch_file.matches(str(tmp_path / name))
    (tmp_path / "empty.pt").touch()
    assert not pytorch_file.matches(str(tmp_path / "empty.pt"))
    assert not pytorch_file.matches("directory/model.h5")


def test_dictionaries_that_contain_themselves(state, tmp_path):
    content = {"state_dict": dict(state)}
    content["again"] = content["state_dict"]["again"] = content
    torch.save(content, tmp_path / "file.pth")
    assert weights_file.open_weights(str(tmp_path / "file.pth")).num_classes == 5


def test_dictionaries_with_exponentially_many_paths(tmp_path):
    content = {"x": torch.ones(1)}
    for _ in range(60):
        content = {"a": content, "b": content}
    torch.save(content, tmp_path / "file.pth")
    assert "no ResNet" in refused(tmp_path / "file.pth")


def test_tensors_that_claim_more_than_is_stored(state, tmp_path):
    """A stride of zero repeats one number."""
    weight = torch.zeros(1).expand(2**33, 64)
    torch.save(state | {"fc.weight": weight, "fc.bias": weight[:, 0]}, tmp_path / "file.pth")
    assert "its tensors are larger than the file" in refused(tmp_path / "file.pth")


def test_heads_that_claim_more_than_is_stored(state, tmp_path):
    """Finding the projection head reads values, but not of these."""
    head = {"0.weight": torch.zeros(1).expand(2**33, 64)}
    names = ("weight", "bias", "running_mean", "running_var")
    head |= {f"1.{name}": torch.zeros(1).expand(2**33) for name in names}
    torch.save({"net": state, "head": head}, tmp_path / "file.pth")
    assert "its tensors are larger than the file" in refused(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(8, 3, 7, 7).to_sparse(),
        torch.ones(8, 3, 7, 7, dtype=torch.int8),
        torch.ones(8, 3, 7, 7, dtype=torch.complex64),
        torch.empty(8, 3, 7, 7, device="meta"),
        torch.quantize_per_tensor(torch.ones(8, 3, 7, 7), 0.1, 0, torch.qint8),
        3.0,
        None,
    ],
    ids=["sparse", "integers", "complex", "meta", "quantized", "number", "none"],
)
def test_other_kinds_of_tensors_are_missing(state, tmp_path, weight):
    torch.save(state | {"conv1.weight": weight}, tmp_path / "file.pth")
    assert "another network than ours" in refused(tmp_path / "file.pth")


@pytest.mark.parametrize("shape", [(), (0,), (8, 3, 7, 7, 1), (0, 0, 0, 0), (8, 3)])
@pytest.mark.parametrize("name", ["conv1.weight", "layer1.0.conv1.weight", "bn1.running_mean"])
def test_wrong_shapes(state, tmp_path, name, shape):
    torch.save(state | {name: torch.ones(shape)}, tmp_path / "file.pth")
    refused(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "name", ["layer1.0.\x1b[31m\nfc.weight", "layer1.0." + "x" * 10_000, "layer1.0..weight"]
)
def test_names_do_not_reach_the_terminal(state, tmp_path, name):
    torch.save(state | {name: torch.ones(1)}, tmp_path / "file.pth")
    assert "also has" in refused(tmp_path / "file.pth")


def test_too_many_tensors(state, tmp_path, monkeypatch):
    monkeypatch.setattr(pytorch_tensors, "MAX_TENSORS", 50)
    torch.save({"model": state}, tmp_path / "file.pth")
    assert "more than 50 tensors" in refused(tmp_path / "file.pth")
    safetensors_torch.save_file(state, tmp_path / "file.safetensors")
    assert "more than 50 tensors" in refused(tmp_path / "file.safetensors")


def test_old_files_without_zip(state, tmp_path):
    torch.save(state, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    assert weights_file.open_weights(str(tmp_path / "file.pth")).num_classes == 5


def test_torch_that_is_not_installed(state, tmp_path, monkeypatch):
    torch.save(state, tmp_path / "file.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install '.[torch]'" in refused(tmp_path / "file.pth")


def test_a_file_that_changes_after_it_was_opened(state, tmp_path):
    """A bfloat16 tensor is read from the file again."""
    path = tmp_path / "file.safetensors"
    halves = {name: value.bfloat16() for name, value in state.items()}
    safetensors_torch.save_file(halves, path)
    stored = weights_file.open_weights(str(path))
    path.unlink()
    safetensors_file(path, json.dumps({}).encode())
    with pytest.raises(ConfigError, match="cannot be read"):
        stored.read("base_model/stem/conv/kernel")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(state, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(state, path)
    path.chmod(0)
    assert "cannot be read" in refused(path)
