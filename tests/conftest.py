"""What all tests share: four CPU devices, golden numbers, small models, event files."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
# Tools are programs: they import one another from their own folder.
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import packaging.version  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

NUM_CPUS = 4
# TensorFlow fixes its devices when it starts, so this holds for the whole test process.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * NUM_CPUS
)


def pytest_addoption(parser):
    parser.addoption("--share", default="1/1", help="K/N: of the long tests each N-th")


def pytest_collection_modifyitems(config, items):
    """Leaves out the long tests that are another share's.

    Tests marked `shared` are divided one by one, other long tests by files, because the tests of a
    file often share a run. Tests marked `both_stacks` are in every share.
    """
    share, number = map(int, config.getoption("--share").split("/"))

    def marked(items, marker: str, *, is_marked: bool = True):
        return [item for item in items if bool(item.get_closest_marker(marker)) == is_marked]

    long = marked(marked(items, "long"), "both_stacks", is_marked=False)
    by_test, by_file = marked(long, "shared"), marked(long, "shared", is_marked=False)
    files = sorted({item.path for item in by_file})[share - 1 :: number]
    left_out = set(by_test) - set(by_test[share - 1 :: number])
    left_out |= {item for item in by_file if item.path not in files}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The golden numbers in the repository; a file may be missing, see `golden`."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("the shared folder is not beside the repository")
    return path


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory) -> Path:
    """A folder in which the shapes data set is prepared."""
    from tf_simclr.data.sources import shapes

    folder = tmp_path_factory.mktemp("tfds")
    shapes.prepare(folder)
    return folder


@pytest.fixture(scope="session")
def free_ports():
    """Function: number -> as many ports of this machine that nobody listens on."""

    def find(number: int) -> list[int]:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            return [each.getsockname()[1] for each in sockets]

    return find


@pytest.fixture(scope="session")
def data_service(free_ports):
    """Function: number of tf.data workers -> a context with the address of their dispatcher.

    They are processes of tools/data_service.py. In the process that trains they would wait for each
    other's threads.
    """

    @contextlib.contextmanager
    def start(num_workers: int):
        dispatcher_port, *ports = free_ports(1 + num_workers)
        names = ",".join(f"localhost:{port}" for port in ports)
        dispatcher = f"localhost:{dispatcher_port}"
        commands = [("dispatcher", f"--port={dispatcher_port}", f"--workers={names}")] + [
            ("worker", f"--port={port}", "--host=localhost", f"--dispatcher={dispatcher}")
            for port in ports
        ]
        tool, parts = str(ROOT / "tools" / "data_service.py"), []
        try:
            for command in commands:
                part = subprocess.Popen(
                    [sys.executable, tool, *command], stdout=subprocess.PIPE, text=True
                )
                parts.append(part)
                assert "ready on port" in part.stdout.readline()
            yield f"grpc://{dispatcher}"
            for part in reversed(parts):
                part.send_signal(signal.SIGTERM)
            assert [part.wait(30) for part in parts] == [0] * len(parts)
        finally:
            for part in parts:
                part.kill()

    return start


@pytest.fixture
def loaded_graphs(monkeypatch) -> list[str]:
    """The SavedModels whose graph is loaded, and not only their variables."""
    from tf_simclr.checkpoints.formats.tensorflow import saved_model

    paths, original = [], saved_model.load

    def record(path, *, flag):
        paths.append(path)
        return original(path, flag=flag)

    monkeypatch.setattr(saved_model, "load", record)
    return paths


@pytest.fixture(scope="session")
def golden(golden_dir):
    """Function: name of a golden file or folder -> its path; skips where there is none."""

    def find(name: str) -> Path:
        for folder in (golden_dir, ROOT.parent / "shared" / "golden"):
            if (folder / name).exists():
                return folder / name
        pytest.skip(f"golden numbers {name} are neither in tests/golden nor in ../shared/golden")

    return find


@pytest.fixture(scope="session")
def replicas():
    """Function: number -> a strategy over as many CPU devices."""
    strategies = {}

    def make(number: int) -> tf.distribute.Strategy:
        if number not in strategies:
            strategies[number] = tf.distribute.MirroredStrategy(
                [f"CPU:{i}" for i in range(number)],
                cross_device_ops=tf.distribute.ReductionToOneDevice(),
            )
        return strategies[number]

    return make


@pytest.fixture(scope="session")
def run_on():
    """Function: (strategy, function, *arrays) -> [results of each replica by name].

    The arrays have one slice a replica; the function returns a dict. With graph=False it does not
    run as a tf.function: tracing a whole model for each of several replicas takes minutes.
    """

    def run(strategy, function, *arrays, graph=True):
        local = [
            strategy.experimental_distribute_values_from_function(
                lambda context, a=a: tf.convert_to_tensor(a[context.replica_id_in_sync_group])
            )
            for a in arrays
        ]

        def run_all(args):
            return strategy.run(function, args=args)

        results = (tf.function(run_all) if graph else run_all)(tuple(local))
        per_replica = {
            name: strategy.experimental_local_results(value) for name, value in results.items()
        }
        return [
            {name: values[r].numpy() for name, values in per_replica.items()}
            for r in range(strategy.num_replicas_in_sync)
        ]

    return run


@pytest.fixture(scope="session")
def tiny_model():
    """Function: settings of SimCLR and Model -> a ResNet-18 of 4 to 32 channels for 32 pixels."""
    from tf_simclr.config import Model
    from tf_simclr.models.simclr import SimCLR

    small = dict(resnet_depth=18, width_multiplier=0.0625, proj_out_dim=8)

    def make(
        *,
        num_classes=5,
        image_size=32,
        stop_supervised_gradient=False,
        precision=None,
        seed=0,
        **network,
    ) -> SimCLR:
        keras.utils.set_random_seed(seed)
        model = SimCLR(
            num_classes,
            image_size=image_size,
            network=Model(**(small | network)),
            stop_supervised_gradient=stop_supervised_gradient,
            precision=precision,
        )
        # TensorFlow cannot combine a global seed of 0 with one that is a tensor (Dataset.shuffle).
        tf.random.set_seed(1)
        return model

    return make


@pytest.fixture(scope="session")
def short_model(tiny_model):
    """Like tiny_model, but of one block a group and with gammas that let every layer count."""
    import small

    def make(**settings):
        with small.one_block_a_group():
            model = tiny_model(**settings)
        for path, variable in model.variables_by_path().items():
            if path.endswith("/gamma"):
                variable.assign(np.full(variable.shape, 0.7))
        return model

    return make


@pytest.fixture(scope="session")
def randomize():
    """Function: gives every variable of a model or layer a value that is not its initial one.

    Zero gammas and zero means would hide what lies behind them.
    """

    def assign(layer, seed=0):
        rng = np.random.default_rng(seed)
        for variable in layer.variables:
            shape = tuple(variable.shape)
            if len(shape) > 1:
                value = rng.normal(size=shape) * (2.0 / np.prod(shape[:-1])) ** 0.5
            else:
                value = rng.uniform(0.5, 1.5, shape)  # variances must be positive
            variable.assign(value.astype(np.float32))

    return assign


@pytest.fixture(scope="session")
def values():
    """Function: model -> {path: copy of the variable's value}."""

    def read(model) -> dict[str, np.ndarray]:
        return {
            path: np.array(tf.convert_to_tensor(v)) for path, v in model.variables_by_path().items()
        }

    return read


@pytest.fixture
def hub(monkeypatch):
    """tensorflow_hub; the test is skipped where it is missing."""
    if importlib.util.find_spec("pkg_resources") is None:
        # tensorflow_hub takes one function from it, and setuptools has it no longer.
        stub = types.SimpleNamespace(parse_version=packaging.version.parse)
        monkeypatch.setitem(sys.modules, "pkg_resources", stub)
    return pytest.importorskip("tensorflow_hub", reason="needs tensorflow-hub, and tf_keras")


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """Makes evil_module, which creates a file when it is imported; returns that file's path."""
    marker = tmp_path / "executed"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("evil_module", None)
    return marker


@pytest.fixture(scope="session")
def bad_images_dir(tmp_path_factory) -> str:
    """A folder in which the data set bad_images is prepared (tests/bad_images.py)."""
    import bad_images

    folder = str(tmp_path_factory.mktemp("bad_images"))
    bad_images.prepare(folder)
    return folder


@pytest.fixture(scope="session")
def events():
    """Function: folder of event files -> {tag: {step: array}}."""

    def read(directory) -> dict[str, dict[int, np.ndarray]]:
        accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator"
        ).EventAccumulator(str(directory), size_guidance={"tensors": 0})
        accumulator.Reload()
        return {
            tag: {e.step: tf.make_ndarray(e.tensor_proto) for e in accumulator.Tensors(tag)}
            for tag in accumulator.Tags()["tensors"]
        }

    return read
