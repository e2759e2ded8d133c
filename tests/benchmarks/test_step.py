"""The step benchmark: devices and their peaks, counted FLOPs, memory, runs with real input."""

import json

import pytest
import tensorflow as tf

from benchmarks import devices, matrix_ops, memory_use, network, step, step_sides
from benchmarks.__main__ import main
from benchmarks.devices import Accelerator
from tf_simclr.config import Config
from tf_simclr.devices import strategies

TINY = ("step", "--network=tiny", "--repetitions=1")


def rows_of(folder, *arguments: str) -> list[dict]:
    path = folder / "rows.jsonl"
    main([*TINY, *arguments, f"--json={path}"])
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "name, precision, tflops",
    [
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
        ("A100-SXM4-80GB", "float32", 156),
        ("NVIDIA A100 80GB PCIe", "bfloat16", 312),
        ("NVIDIA A100-PCIE-40GB", "float16", 312),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H200", "float32", 494),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),  # has no matrix units for it
        ("Tesla T4", "float16", 65),
        ("NVIDIA L4", "bfloat16", 121),
        ("NVIDIA L40S", "bfloat16", None),
        ("NVIDIA GeForce RTX 3090", "float16", 71),
        ("NVIDIA GeForce RTX 3090 Ti", "float16", None),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
    ],
)
def test_a_gpu_is_recognized_by_its_whole_name(name, precision, tflops):
    expected = None if tflops is None else pytest.approx(2e12 * tflops)
    assert devices.gpu(name, chips=2).peak_flops(precision) == expected


@pytest.mark.parametrize(
    "accelerator_type, chips, tflops",
    [
        ("v2-8", 4, 4 * 45),
        ("v3-32", 16, 16 * 123),
        ("v4-8", 4, 4 * 275),
        ("v5litepod-16", 16, 16 * 197),
        ("v5p-8", 4, 4 * 459),
        ("v6e-8", 8, 8 * 918),
        ("v9-8", 0, None),
        ("", 0, None),
    ],
)
def test_a_tpu_is_recognized_by_its_type(accelerator_type, chips, tflops):
    found = devices.tpu(accelerator_type)
    assert found.chips == chips
    assert found.peak_flops("bfloat16") == (tflops and pytest.approx(1e12 * tflops))
    assert found.peak_flops("float16") is None


def test_the_accelerators_of_a_strategy(monkeypatch):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    assert devices.of(strategy) is None
    monkeypatch.setattr(strategies, "on_cpu", lambda strategy: False)
    experimental = tf.config.experimental
    monkeypatch.setattr(
        experimental, "get_device_details", lambda device: {"device_name": "Tesla T4"}
    )
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert devices.of(strategy) == Accelerator("Tesla T4", 1, devices.gpu("Tesla T4").device)
    monkeypatch.setattr(strategies, "is_tpu", lambda strategy: True)
    monkeypatch.setenv(devices.TPU_TYPE, "v4-16")
    assert devices.of(strategy) == devices.tpu("v4-16")


def test_the_memory_of_a_cpu_is_not_reported(tmp_path):
    """Also not after a trace, from which on TensorFlow counts it."""
    tf.profiler.experimental.start(str(tmp_path))
    tf.random.uniform([1000])
    tf.profiler.experimental.stop()
    assert memory_use.of_device("/device:CPU:0", reset_peak=True) is None


class KnownStep:
    """A step of 10^12 FLOPs."""

    def flops(self) -> float:
        return 1e12


@pytest.mark.parametrize(
    "accelerator, given, what, expected",
    [
        (devices.gpu("NVIDIA A100-SXM4-40GB"), None, "TFLOP/s beside the bfloat16 peak", [4, 312]),
        (devices.gpu("NVIDIA A100-SXM4-40GB"), 8.0, "TFLOP/s beside the bfloat16 peak", [4, 8]),
        (devices.gpu("NVIDIA X1"), None, "TFLOP/s", [4, None]),
        (devices.gpu("NVIDIA X1"), 16.0, "TFLOP/s beside the bfloat16 peak", [4, 16]),
        (None, 16.0, "TFLOP/s beside the bfloat16 peak", [4, 16]),
    ],
)
def test_flops_stand_beside_the_vendors_peak(accelerator, given, what, expected):
    added = []
    out = type("Out", (), {"add": added.append})
    step._flops(out, "", {"bfloat16": KnownStep()}, {"bfloat16": 0.25}, accelerator, given)
    (row,) = added
    assert (row.what, row.unit) == (f"{what}, bfloat16", "TFLOP/s")
    assert [row.ours, row.baseline] == expected


def test_an_unknown_device_is_named_with_the_way_out():
    def note(name, precision, peak_tflops=None):
        args = type("Args", (), {"precision": [precision], "peak_tflops": peak_tflops})
        return step._unknown(name and devices.gpu(name), args)

    assert "no such peak of NVIDIA X1; --peak_tflops gives it" in note("NVIDIA X1", "bfloat16")
    assert "no such peak of Tesla T4" in note("Tesla T4", "bfloat16")
    assert note("Tesla T4", "float16") == note("NVIDIA X1", "float16", 5.0) == note(None, "a") == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--precision=int8"], "--precision must be of"),
        (["--peak_tflops=0", "--precision=bfloat16"], "--peak_tflops must be a positive peak"),
        (["--peak_tflops=1"], "name one --precision"),
        (["--data_dir=/no/such/folder"], "data_dir must be an existing directory"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([*TINY, *arguments])


def test_several_devices_have_no_baseline(monkeypatch, replicas):
    monkeypatch.setattr(strategies, "make_strategy", lambda **settings: replicas(2))
    with pytest.raises(SystemExit, match="set --alone, or CUDA_VISIBLE_DEVICES=0"):
        main([*TINY])


@pytest.mark.long
def test_a_step_on_two_replicas_has_the_flops_of_one_device(replicas):
    config = Config().replace(
        resnet_depth=18, image_size=16, width_multiplier=0.0625, train_batch_size=4, seed=1
    )
    config = config.replace(use_blur=False, learning_rate=0.1)
    one, two = (step_sides.ours(config, replicas(number)) for number in (1, 2))
    assert one() > 0 and two() > 0
    # NT-Xent multiplies each replica's images with all; one device halves the work by symmetry.
    assert two.flops() == pytest.approx(one.flops(), rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"resnet_depth": 18, "image_size": 32},
        {"resnet_depth": 50, "image_size": 64},
        {"resnet_depth": 50, "image_size": 40, "sk_ratio": 0.0625},
    ],
)
def test_flops_and_kept_numbers_of_a_step_are_those_of_the_formula(settings):
    """Of the graph: multiply-adds exactly; the backward pass reads some copies besides."""
    batch, width = 2, 0.25
    config = Config().replace(
        **settings,
        width_multiplier=width,
        train_batch_size=batch,
        seed=1,
        use_blur=False,
        fused_batch_norm=True,
        learning_rate=0.1,
    )
    made = step_sides.ours(config, tf.distribute.OneDeviceStrategy("CPU:0"))
    model = network.simclr(
        num_classes=10,
        width_multiplier=width,
        small_stem=config.data.image_size <= 32,
        **settings,
    )
    of_the_loss = 24 * batch**2 * config.model.proj_out_dim
    assert made.flops() == 2 * 2 * batch * network.step_products(model) + of_the_loss
    graph = made._step.get_concrete_function(made._batch).graph
    kept = kept_numbers(graph, 2 * batch)
    assert 1 <= kept / (2 * batch * model.kept) < 1.2  # padded and strided copies


def kept_numbers(graph: tf.Graph, views: int) -> int:
    """Numbers of the forward pass, of all views, that the backward pass reads."""

    def is_backward(op):
        return "gradient_tape" in op.name or op.type == "AddN"

    kept = {
        tensor.name: tensor.shape.num_elements()
        for op in graph.get_operations()
        if is_backward(op)
        for tensor in op.inputs
        if not is_backward(tensor.op) and tensor.dtype == tf.float32
        if tensor.shape.rank and tensor.shape[0] == views
    }
    return sum(kept.values())


def test_operations_that_nothing_needs_are_not_counted():
    kernel = tf.ones((3, 3, 4, 5))

    @tf.function
    def call(images):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            y = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME") ** 2)
        of_images, of_kernel = tape.gradient(y, [images, kernel])
        del of_images
        return of_kernel

    graph = call.get_concrete_function(tf.ones((2, 8, 8, 4))).graph
    assert "Conv2DBackpropInput" in {op.type for op in graph.get_operations()}
    assert matrix_ops.matrix_flops(graph) == 2 * 2 * (2 * 8 * 8 * 5 * 9 * 4)


@pytest.mark.long
def test_an_accelerator_has_its_peak_and_its_memory(tmp_path, monkeypatch, capsys):
    """With the CPU in its place: TensorFlow's names and its report of the memory are invented."""
    experimental, memory = tf.config.experimental, iter([(5, 9), (7, 45), (7, 9), (8, 107)])
    monkeypatch.setattr(strategies, "on_cpu", lambda strategy: False)
    monkeypatch.setattr(
        strategies, "make_strategy", lambda **kw: tf.distribute.OneDeviceStrategy("CPU:0")
    )
    monkeypatch.setattr(strategies, "describe_models", lambda strategy: "1 GPU, NVIDIA L4")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(
        experimental, "get_device_details", lambda gpu: {"device_name": "NVIDIA L4"}
    )
    monkeypatch.setattr(memory_use, "of_device", lambda name, reset_peak=False: next(memory))
    rows = rows_of(tmp_path, "--precision=bfloat16,float32", "--alone")
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("step, bfloat16", "images/s"),
        ("step, float32", "images/s"),
        ("TFLOP/s beside the bfloat16 peak, bfloat16", "TFLOP/s"),
        ("TFLOP/s beside the float32 peak, float32", "TFLOP/s"),
        ("step: memory, bfloat16", "MB"),
        ("step: memory, float32", "MB"),
    ]
    assert [row["baseline"] for row in rows[2:4]] == [121, 60]
    assert [row["ours"] for row in rows[4:]] == [45 - 5, 107 - 7]
    assert all(row["setting"].endswith("batch 4, 1 GPU, NVIDIA L4") for row in rows)


@pytest.mark.long
def test_a_run_with_real_input_and_memory(tmp_path, shapes_dir, capsys):
    rows = rows_of(
        tmp_path,
        "--precision=bfloat16",
        "--alone",
        "--jit_compile",
        "--peak_tflops=0.5",
        "--memory",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
    )
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("step, bfloat16", "images/s"),
        ("TFLOP/s beside the bfloat16 peak, bfloat16", "TFLOP/s"),
        ("step: memory, bfloat16", "MB"),
        ("in a run, bfloat16", "images/s"),
        ("in a run: waits for input, bfloat16", "%"),
    ]
    by_what = {row["what"].split(",")[0]: row for row in rows}
    assert by_what["TFLOP/s beside the bfloat16 peak"]["baseline"] == 0.5
    assert by_what["step: memory"]["ours"] > 1e6
    assert by_what["in a run"]["baseline"] == by_what["step"]["ours"]
    assert 0 <= by_what["in a run: waits for input"]["ours"] <= 100
    assert all(row["setting"].endswith("16 pixels, batch 4, XLA") for row in rows)
