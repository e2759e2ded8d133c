"""Files of a run that somebody else has written: each is right, or an error of one line."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from tf_simclr.checkpoints import (
    examples_seen,
    run_checkpoints,
    weights,
    weights_file,
)
from tf_simclr.checkpoints.formats.tensorflow import object_graph
from tf_simclr.errors import ConfigError
from tf_simclr.optim import policy

SUFFIX = object_graph.SUFFIX
HUGE = 2**40  # float32 values: four terabytes
STEM = "model/base_model/stem/conv/kernel"
OFFICIAL_STEM = "model/resnet_model/initial_conv_relu_max_pool/0/conv2d/kernel"


def save(prefix, tensors: dict, huge: str | None = None) -> str:
    """Writes a checkpoint; of the tensor `huge` one value, and the claim that there are more."""
    tensors = {key: tf.convert_to_tensor(value) for key, value in tensors.items()}
    slices = [""] * len(tensors)
    if huge:
        tensors[huge] = tf.ones(1)
        slices.append(f"{HUGE} 0,1")
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=slices,
        tensors=list(tensors.values()),
    )
    return str(prefix)


def graph_of(keys: dict[str, str]) -> trackable_object_graph_pb2.TrackableObjectGraph:
    """The object graph of {path: key}."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.nodes.add()
    for path, key in keys.items():
        node = 0
        for name in path.split("/"):
            children = {child.local_name: child.node_id for child in graph.nodes[node].children}
            if name not in children:
                graph.nodes.add()
                children[name] = len(graph.nodes) - 1
                graph.nodes[node].children.add(node_id=children[name], local_name=name)
            node = children[name]
        graph.nodes[node].attributes.add(name="VARIABLE_VALUE", checkpoint_key=key)
    return graph


def contents(prefix) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(prefix)
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def model(short_model):
    return short_model()


def checkpointer_for(model, directory, **settings):
    optimizer = policy.make_optimizer(model, "lars", 0.1, momentum=0.9, weight_decay=0)
    return run_checkpoints.Checkpointer(model, optimizer, str(directory), max_to_keep=5, **settings)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> str:
    seen = examples_seen.ExamplesSeen(8)
    return checkpointer_for(model, tmp_path_factory.mktemp("saved"), examples_seen=seen).save()


@pytest.fixture
def no_huge_reads(monkeypatch):
    """Ends the test where memory would be taken for the huge tensor."""
    original = tf.train.load_checkpoint

    class Reader:
        def __init__(self, prefix):
            self._reader = original(prefix)

        def get_tensor(self, key):
            shape = self._reader.get_variable_to_shape_map()[key]
            assert np.prod(shape) < 2**30, f"{key} of shape {shape} is read"
            return self._reader.get_tensor(key)

        def __getattr__(self, name):
            return getattr(self._reader, name)

    monkeypatch.setattr(tf.train, "load_checkpoint", Reader)


def error_of(function, *args, **kwargs) -> str:
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_tensor_of_terabytes_is_refused_before_it_is_read(tmp_path, model, saved, no_huge_reads):
    tensors = contents(saved)
    del tensors[STEM + SUFFIX]
    prefix = save(tmp_path / "ckpt-1", tensors, huge=STEM + SUFFIX)
    message = error_of(weights.restore_weights, model, prefix)
    assert f"such as base_model/stem/conv/kernel with shape ({HUGE},)): give another" in message


def test_an_official_tensor_of_terabytes_is_refused_before_it_is_read(
    tmp_path, model, no_huge_reads
):
    prefix = save(tmp_path / "ckpt-1", {}, huge=OFFICIAL_STEM + SUFFIX)
    message = error_of(weights.restore_weights, model, prefix)
    assert f"such as base_model/stem/conv/kernel with shape ({HUGE},)): give another" in message


@pytest.mark.parametrize(
    "key", ["step", "examples", "optimizer/momentum/base_model/stem/conv/kernel"]
)
def test_going_on_from_terabytes_is_refused(tmp_path, model, saved, key):
    tensors = contents(saved)
    del tensors[key + SUFFIX]
    save(tmp_path / "ckpt-1", tensors, huge=key + SUFFIX)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    checkpointer = checkpointer_for(model, tmp_path, examples_seen=examples_seen.ExamplesSeen(8))
    with pytest.raises(ValueError, match=rf"^{key} has shape \({HUGE},\), not \("):
        checkpointer.restore(checkpointer.latest)
    assert "none of its 1 checkpoints can be read" in error_of(checkpointer.restore_latest)


def test_a_negative_number_of_examples_is_refused(tmp_path, model, saved):
    tensors = contents(saved) | {"examples" + SUFFIX: np.int64(-1)}
    save(tmp_path / "ckpt-1", tensors)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    checkpointer = checkpointer_for(model, tmp_path, examples_seen=examples_seen.ExamplesSeen(8))
    assert "can be read" in error_of(checkpointer.restore_latest)


def test_a_variable_that_is_text_is_refused(tmp_path, model, saved):
    tensors = contents(saved) | {STEM + SUFFIX: np.full((3, 3, 3, 4), b"text")}
    message = error_of(weights.restore_weights, model, save(tmp_path / "ckpt-1", tensors))
    assert "base_model/stem/conv/kernel is string" in message


def test_a_variable_that_is_listed_and_missing_is_refused(tmp_path, model, saved):
    tensors = contents(saved)
    del tensors[STEM + SUFFIX]
    prefix = save(tmp_path / "ckpt-1", tensors)
    assert "stem/conv/kernel is not in the file" in error_of(weights.restore_weights, model, prefix)
    with pytest.raises(weights.READ_ERRORS):
        weights.read_shapes(prefix)


def circle():
    graph = graph_of({"model/a": "key"})
    for _ in range(3):  # each path leads on to two
        graph.nodes[1].children.add(node_id=1, local_name="again")
    return graph


def many_paths():
    """Forty nodes, and 2**40 ways through them."""
    graph = graph_of({"model": "key"})
    for number in range(1, 40):
        graph.nodes.add()
        for name in ("a", "b"):
            graph.nodes[number].children.add(node_id=number + 1, local_name=name)
    return graph


def beyond():
    graph = graph_of({"model/a": "key"})
    graph.nodes[1].children.add(node_id=1000, local_name="x")
    return graph


@pytest.mark.parametrize(
    "content",
    [
        b"no protocol buffer",
        b"",
        [b"two", b"of them"],
        circle().SerializeToString(),
        many_paths().SerializeToString(),
        beyond().SerializeToString(),
    ],
    ids=["no graph", "empty", "a vector", "circle", "many paths", "beyond"],
)
def test_a_corrupt_object_graph_is_an_error_of_one_line(tmp_path, model, content):
    tensors = {object_graph.OBJECT_GRAPH: tf.constant(content), "key": 1.0}
    message = error_of(weights.restore_weights, model, save(tmp_path / "ckpt-1", tensors))
    assert f"checkpoint '{tmp_path}/ckpt-1' cannot be read (" in message


# --- The list of checkpoints, and links.


@pytest.mark.parametrize("prefix", ["{tmp}/other/ckpt-7", "../other/ckpt-7"])
def test_a_list_that_leads_out_of_the_directory_deletes_nothing(tmp_path, model, prefix):
    other = tmp_path / "other" / "ckpt-7.index"
    other.parent.mkdir()
    other.touch()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-1"\n'
        f'all_model_checkpoint_paths: "{prefix.format(tmp=tmp_path)}"\n'
        'all_model_checkpoint_paths: "ckpt-1"\n'
    )
    message = error_of(checkpointer_for, model, folder)
    assert "its file `checkpoint` names" in message and "other/ckpt-7" in message
    assert other.exists()


def test_a_list_with_absolute_paths_into_the_directory_is_fine(tmp_path, model):
    checkpointer_for(model, tmp_path).save()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "checkpoint").write_text(
        f'model_checkpoint_path: "{tmp_path}/ckpt-0"\n'
        f'all_model_checkpoint_paths: "{tmp_path}/ckpt-0"\n'
    )
    for directory in (tmp_path, f"{tmp_path}/", tmp_path / "link"):
        assert checkpointer_for(model, directory).restore_latest()


@pytest.mark.parametrize(
    "content",
    [
        'model_checkpoint_path: "{tmp}/other/ckpt-7"',
        'model_checkpoint_path: "../other/ckpt-7"',
        'model_checkpoint_path: "/nowhere/model.ckpt-250228"',
        'model_checkpoint_path: ""',
        "no list",
    ],
)
def test_weights_are_those_of_the_directory_that_the_user_named(tmp_path, saved, content):
    """Also if its list of checkpoints is of another machine, or leads elsewhere."""
    tensors = contents(saved)
    for name in ("other/ckpt-7", "shared/ckpt-3"):
        (tmp_path / name).parent.mkdir()
        save(tmp_path / name, tensors)
    (tmp_path / "shared" / "checkpoint").write_text(content.format(tmp=tmp_path))
    assert weights.find(str(tmp_path / "shared")) == f"{tmp_path}/shared/ckpt-3"
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    (tmp_path / "shared" / "checkpoint").write_text(
        f'model_checkpoint_path: "{tmp_path}/shared/ckpt-3"'
    )
    assert weights.find(str(tmp_path / "link")) == f"{tmp_path}/shared/ckpt-3"


def test_removing_a_link_leaves_what_it_leads_to(tmp_path, model):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ckpt-3_temp").symlink_to(precious)
    assert checkpointer_for(model, folder).restore_latest() is None
    assert (precious / "file").exists() and not (folder / "ckpt-3_temp").exists()


def test_the_step_is_in_the_name(tmp_path):
    assert weights_file.step_of("run/ckpt-800") == 800
    assert weights_file.step_of("run/model.keras") is None
    folder = tmp_path / "saved_model" / "12"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    assert weights_file.step_of(str(folder / "variables" / "variables")) == 12
