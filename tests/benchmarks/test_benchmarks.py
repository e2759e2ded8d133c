"""The benchmarks' bytes, values and output; never their times."""

import contextlib
import functools
import io
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import small
from benchmarks import (
    collectives,
    communication,
    counts,
    local,
    matrix_ops,
    memory_use,
    network,
    scaling,
    timing,
)
from benchmarks.__main__ import main
from benchmarks.collectives import GATHER, SUM, Collective
from benchmarks.report import Row, measured_runs
from tf_simclr.config import Model
from tf_simclr.devices.replicas import gather_views
from tf_simclr.models import resnet
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy

REPLICAS, BATCH, DIM = 3, 5, 8
MODEL = counts.Settings(
    batch=[BATCH], dim=DIM, resnet_depth=18, width_multiplier=0.0625, repetitions=1
)


def _with_short_model(function, *args):
    """function(*args) where a ResNet-18 is one block; for a new process."""
    resnet.BLOCKS_PER_GROUP[18] = (1,)
    return function(*args)


def _count():
    strategy = local.make_strategy(2)
    layer = counts.batch_norm_collectives(strategy)
    dense, blocks = (
        counts.step_collectives(strategy, MODEL, block_rows=rows)
        for rows in (counts.STEP_BATCH_SIZE, 1)
    )
    return *layer, dense, blocks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `_count` returns; the command line's output; its JSON lines."""
    path = tmp_path_factory.mktemp("benchmark") / "rows.jsonl"
    path.write_text("an earlier run's\n")
    output, in_new_process = io.StringIO(), local.in_new_process
    with (
        ThreadPoolExecutor(1) as thread,
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
    ):
        counted = thread.submit(in_new_process, _with_short_model, _count)
        patch.setattr(local, "in_new_process", functools.partial(in_new_process, _with_short_model))
        main(
            [
                "communication",
                f"--replicas={REPLICAS}",
                f"--batch={BATCH}",
                f"--dim={DIM}",
                f"--width_multiplier={MODEL.width_multiplier}",
                "--step_replicas=0",
                "--repetitions=1",
                f"--json={path}",
            ]
        )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return counted.result(), output.getvalue(), lines


@pytest.fixture
def short_network(monkeypatch):
    """The size of the model of `_with_short_model`, by formula."""
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1,))
    return MODEL.model_size()


@pytest.mark.long
def test_collectives_of_a_training_step_are_those_of_the_formulas(results, short_network):
    (*_, dense, blocks), n = results[0], counts.STEP_BATCH_SIZE
    for counted, scheme in ((dense, scaling.DENSE), (blocks, scaling.BLOCKS)):
        expected = scaling.step(short_network, n, DIM, replicas=2, scheme=scheme)
        assert Counter(counted) == Counter(expected)
        assert counted.count(Collective(GATHER, 2 * n * DIM * 4)) == 1
        assert counted.count(Collective(SUM, short_network.parameters * 4)) == 1
    assert (len(dense), len(blocks)) == (5 * 7 + 5, 5 * 7 + 8)


@pytest.mark.long
def test_batch_norm_exchanges_three_vectors_forward_and_two_backward(results):
    forward, both_directions, *_ = results[0]
    channels = [counts.BN_CHANNELS]
    assert forward == scaling.batch_norm_forward(channels) == 3 * [Collective(SUM, 4 * 64)]
    expected = scaling.batch_norm_forward(channels) + scaling.batch_norm_backward(channels)
    assert both_directions == expected == 5 * [Collective(SUM, 4 * 64)]


@pytest.mark.long
def test_bytes_sent_for_the_hiddens_are_those_of_the_formulas(results):
    rows = {row["what"]: row for row in results[2]}
    forward = rows["hiddens, forward: bytes sent"]
    both = rows["hiddens, forward and backward: bytes sent"]
    part, others = 2 * BATCH * DIM * 4, REPLICAS - 1  # bytes of a replica's hiddens
    assert forward["ours"] == pytest.approx(others * (part + 8))  # and of a shape
    assert forward["baseline"] == pytest.approx(2 * others * part)
    for side, scheme in (("ours", scaling.DENSE), ("baseline", scaling.OFFICIAL)):
        assert both[side] - forward[side] == pytest.approx(2 * others * part)
        for row, directions in ((forward, scheme[:1]), (both, scheme)):
            expected = scaling.hiddens(BATCH, DIM, REPLICAS, directions)
            assert row["origin"] == "computed"
            assert row[side] == pytest.approx(collectives.total_sent(expected, REPLICAS))


@pytest.mark.long
def test_output_is_a_table_with_the_machine_above_and_notes_below(results):
    _, output, rows = results
    lines = output.splitlines()
    assert re.fullmatch(
        rf".+, \d+ cores; TensorFlow {re.escape(tf.__version__)}, "
        rf"Keras {re.escape(keras.__version__)}, Python \d+\.\d+\.\d+\.",
        lines[0],
    )
    assert lines[2] == "| what | setting | ours | baseline | ratio |"
    assert lines[3] == "|---|---|---:|---:|---:|"
    table = [line.strip("| ").split(" | ") for line in lines[4:] if line.startswith("|")]
    assert len(table) == len(rows) == 1 + 5 + 2
    assert table[0][:2] == ["empty step (measured)", f"R = {REPLICAS}"]
    assert {cells[0] for cells in table} >= {
        "hiddens, forward (measured)",
        "hiddens, forward: bytes sent (computed)",
        "hiddens, forward and backward (measured)",
        "all-reduce of the gathered size (measured)",
        "BN statistics (measured)",
        "gradients (measured)",
    }
    assert "communicate through its memory" in output and "- computed: " in output


@pytest.mark.long
def test_json_lines_tell_the_machine_and_the_ratio(results):
    for row in results[2]:
        assert row["benchmark"] == "communication" and row["repetitions"] == 1
        assert row["tensorflow"] == tf.__version__ and row["cpu"] and row["cores"] >= 1
        assert row["ours"] > 0
        if row["baseline"] is None:
            assert row["ratio"] is None
        else:
            assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"])


def test_counts_stand_beside_the_formulas(monkeypatch, short_network):
    lists = iter([[Collective(SUM, 7)], [Collective(SUM, 1), Collective(GATHER, 2)]])
    monkeypatch.setattr(local, "make_strategy", lambda replicas: None)
    monkeypatch.setattr(counts, "batch_norm_collectives", lambda strategy: tuple(lists))
    monkeypatch.setattr(counts, "step_collectives", lambda *_, block_rows: [Collective(SUM, 9)])
    rows = counts.rows(2, MODEL)
    assert {row.origin for row in rows} == {"counted"}
    assert [row.ours for row in rows] == [1, 7, 2, 3, 1, 9, 1, 9]
    expected = [3, 3 * 4 * 64, 5, 5 * 4 * 64]
    for scheme in (scaling.DENSE, scaling.BLOCKS):
        step = scaling.step(short_network, counts.STEP_BATCH_SIZE, DIM, replicas=2, scheme=scheme)
        expected += [len(step), collectives.total_bytes(step)]
    assert [row.baseline for row in rows] == expected


def test_both_gathering_schemes_give_the_same_values_and_gradients(replicas, run_on):
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(REPLICAS, 2, 3, 4)).astype(np.float32)  # two views of three images
    weights = rng.normal(size=(REPLICAS, 2, REPLICAS * 3, 4)).astype(np.float32)
    for scheme in (gather_views, communication.padded_sums):

        def replica(part, weight, scheme=scheme):
            with tf.GradientTape() as tape:
                tape.watch(part)
                gathered = tf.stack(scheme(*tf.unstack(part)))
                loss = tf.reduce_sum(gathered * weight)
            return {"gathered": gathered, "gradient": tape.gradient(loss, part)}

        everything = parts.transpose(1, 0, 2, 3).reshape(2, -1, 4)
        for number, result in enumerate(run_on(replicas(REPLICAS), replica, parts, weights)):
            np.testing.assert_array_equal(result["gathered"], everything)
            expected = weights.sum(0)[:, 3 * number : 3 * number + 3]
            np.testing.assert_allclose(result["gradient"], expected, rtol=1e-5)


def test_sides_that_differ_are_not_timed():
    with pytest.raises(AssertionError):
        communication._check_equal([tf.ones(2)], [tf.constant([1.0, 1.001])])


def test_ring_formulas_count_what_a_ring_sends():
    """Both algorithms played through, the bytes counted."""
    replicas, rng = 4, np.random.default_rng(0)
    values = rng.normal(size=(replicas, replicas, 3))  # each replica's tensor in so many chunks
    held, sent = values.copy(), np.zeros(replicas)
    for first, add in ((0, True), (1, False)):  # reduce-scatter, then all-gather
        for hop in range(replicas - 1):
            before = held.copy()
            for r in range(replicas):
                chunk, to = (r + first - hop) % replicas, (r + 1) % replicas
                held[to, chunk] = before[r, chunk] + (before[to, chunk] if add else 0)
                sent[r] += before[r, chunk].nbytes
    np.testing.assert_allclose(held, np.broadcast_to(values.sum(0), held.shape))
    assert set(sent) == {Collective(SUM, values[0].nbytes).sent(replicas)}
    # The second half alone is an all-gather, of one chunk of each replica.
    assert set(sent / 2) == {Collective(GATHER, values[0, 0].nbytes).sent(replicas)}


def test_collectives_that_cannot_be_counted_are_an_error():
    def collective(x):
        return tf.raw_ops.CollectiveReduceV2(
            input=x,
            group_size=1,
            group_key=1,
            instance_key=1,
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
        )

    x = tf.ones(3)
    graph = tf.function(collective).get_concrete_function(x).graph
    assert [op.type for op in collectives.operations(graph)] == ["CollectiveReduceV2"]
    inner = tf.function(collective)
    graph = tf.function(lambda x: inner(x)).get_concrete_function(x).graph
    with pytest.raises(ValueError, match="cannot count CollectiveReduceV2"):
        collectives.operations(graph)


@pytest.mark.parametrize(
    "settings",
    [
        dict(resnet_depth=18),
        dict(resnet_depth=18, sk_ratio=0.0625, image_size=33),
        dict(resnet_depth=50, image_size=33, num_proj_layers=2),
        dict(resnet_depth=50, sk_ratio=0.7, image_size=33),
    ],
)
def test_network_is_that_of_a_built_model(settings, monkeypatch):
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, settings["resnet_depth"], (2, 1, 1, 2))
    settings = dict(num_classes=5, width_multiplier=0.1, proj_out_dim=3, image_size=32) | settings
    image_size = settings.pop("image_size")
    num_classes = settings.pop("num_classes")
    model = SimCLR(num_classes, image_size=image_size, network=Model(**settings))
    found = network.simclr(small_stem=image_size <= 32, num_classes=num_classes, **settings)
    sizes = [int(np.prod(v.shape)) for v in policy.trainable_variables(model)]
    assert sorted(found.variables) == sorted(sizes)
    layers = [layer for _, layer in model.named_layers()]
    channels = [
        layer.gamma.shape[0]
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert sorted(found.bn_channels) == sorted(channels)


@pytest.mark.parametrize("depth, width, sk_ratio, millions", small.PUBLISHED_SIZES)
def test_parameters_are_those_of_the_paper(depth, width, sk_ratio, millions):
    """SimCLRv2, table 1."""
    found, _ = network.encoder(resnet_depth=depth, width_multiplier=width, sk_ratio=sk_ratio)
    assert round(found.parameters / 1e6) == millions


def test_predictions_are_the_ones_in_the_docs(capsys, repo_root):
    main(["communication", "--predict"])
    printed = capsys.readouterr().out.strip()
    assert printed in (repo_root / "docs" / "scaling.md").read_text()
    cells = [cell.strip() for cell in printed.splitlines()[2].strip("|").split("|")]
    assert cells[:3] == ["ResNet-50 (1x)", "8", "512"]
    hiddens = 2 * 512 * 128 * 4  # bytes of a replica
    gradients = 2 * 7 / 8 * 4 * 34_216_104
    bn = 2 * 7 / 8 * 4 * 5 * 30_784
    ours, official = 7 * (hiddens + 8) + 14 * hiddens, 28 * hiddens
    expected = [ours, official, bn, gradients, ours + bn + gradients, official + bn + gradients]
    logits = 4 * 512 * 4096 * 4
    assert cells[3:9] == [f"{size / 1e6:.2f}" for size in expected]
    assert cells[9:] == [str(5 * 56 + 5), f"{logits / 1e6:.2f}"]


def test_timed_functions_take_turns_and_the_first_calls_do_not_count(monkeypatch):
    calls, now = [], [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    durations = {"a": iter([50, 50, 1, 9, 2]), "b": iter([50, 50, 4, 5, 30])}

    def function(name):
        calls.append(name)
        now[0] += next(durations[name])

    found = timing.medians([lambda: function("a"), lambda: function("b")], repetitions=3)
    assert found == [2e3, 5e3]
    assert calls == ["a", "b"] * 5


def test_a_row_without_a_baseline_has_no_ratio():
    row = Row("bytes", "of nothing", "bytes", 1234567.0, None, "counted")
    assert row.markdown() == "| bytes (counted) | of nothing | 1,234,567 B |  |  |"
    row = Row("time", "R = 2", "ms", 1.0, 4.0, "measured")
    assert row.markdown() == "| time (measured) | R = 2 | 1.00 ms | 4.00 ms | 0.25 |"


def test_a_row_of_runs_shows_medians_and_spread():
    row = measured_runs("export", "narrow", "s", [[3.0, 1.0, 2.0], [4.0, 5.0, 8.0]])
    assert (row.ours, row.baseline, row.ratio) == (2.0, 5.0, 0.4)
    assert row.markdown() == (
        "| export (measured) | narrow | 2.0 s (1.0 s to 3.0 s) | 5.0 s (4.0 s to 8.0 s) | "
        "0.40 (0.20 to 0.75) |"
    )
    alone = measured_runs("export", "narrow", "s", [[3.0, 1.0, 2.0]])
    assert alone.markdown() == "| export (measured) | narrow | 2.0 s (1.0 s to 3.0 s) |  |  |"
    once = measured_runs("step", "narrow", "ms", [[3.0], [0.0]])
    assert once.markdown() == "| step (measured) | narrow | 3.00 ms | 0.00 ms |  |"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--replicas=2,1"], "--replicas: needs a whole number >= 2, got '1'"),
        (["--batch=0"], "--batch: needs a whole number >= 1, got '0'"),
        (["--repetitions=x"], "--repetitions: needs a whole number >= 1, got 'x'"),
        (
            ["--json=no/such/folder/file"],
            "--json: cannot write 'no/such/folder/file': No such file",
        ),
    ],
)
def test_wrong_arguments_are_named(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["communication", *arguments])
    assert message in capsys.readouterr().err


def measure(folder: Path, *arguments: str) -> list[dict]:
    """Runs a benchmark once and returns the rows of its table."""
    path = folder / "rows.jsonl"
    main([*arguments, "--repetitions=1", f"--json={path}"])
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
def test_loss_measures_both_sides(tmp_path, capsys):
    rows = measure(tmp_path, "loss", "--batch=24", "--dim=4", "--loss_block_rows=8")
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("loss and gradient", "ms"),
        ("loss and gradient: memory", "MB"),
    ]
    assert all(row["ours"] > 0 and row["setting"].endswith("d = 4, 8 rows") for row in rows)
    assert all(row["baseline"] > 0 for row in rows)


def _allocation(size: int):
    return lambda: np.ones(size, np.uint8).sum()


@pytest.mark.long
def test_memory_is_that_of_the_call():
    peak = memory_use.peak(_allocation, 200_000_000)
    assert 190e6 < peak < 230e6


@pytest.mark.long
def test_input_measures_rates(shapes_dir, tmp_path, capsys):
    rows = measure(
        tmp_path,
        "input",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--batch=16",
        "--batches=1",
    )
    assert [row["what"] for row in rows] == [
        "host's work, augment_on=device",
        "host's work, augment_on=host",
        "all, augment_on=device",
        "bare decoding",
    ]
    assert all(row["ours"] > 0 and row["unit"] == "images/s" for row in rows)
    assert rows[3]["baseline"] is None and all(row["ratio"] > 0 for row in rows[:3])


@pytest.mark.long
def test_step_measures_all_sides(tmp_path, capsys):
    rows = measure(tmp_path, "step", "--network=tiny", "--precision=bfloat16,float32+unfused")
    assert [(row["what"].split(",")[0].partition(" ")[0], row["unit"]) for row in rows] == [
        *[("step", "images/s")] * 3,
        *[("in", "%")] * 3,
        *[("GFLOP/s", "count")] * 4,
    ]
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in rows)
    assert all(row["ours"] < 100 and row["baseline"] < 100 for row in rows if row["unit"] == "%")


def test_flops_are_those_of_the_convolutions_and_products():
    kernel, weights = tf.ones((3, 3, 4, 5)), tf.ones((5, 7))

    @tf.function
    def call(images):  # (2, 8, 8, 4) -> (2, 4, 4, 5) -> (2, 5) -> (2, 7)
        with tf.GradientTape() as tape:
            tape.watch([images, kernel, weights])
            y = tf.nn.conv2d(images, kernel, 2, "SAME")
            y = tf.reduce_sum(tf.reduce_sum(y, axis=(1, 2)) @ weights)
        return y, tape.gradient(y, [images, kernel, weights])

    found = matrix_ops.matrix_flops(call.get_concrete_function(tf.ones((2, 8, 8, 4))).graph)
    # Forward, and backward to either side.
    assert found == 3 * 2 * (2 * 4 * 4 * 5 * 9 * 4 + 2 * 5 * 7)


@pytest.mark.long  # four processes, each of which imports, traces and trains
def test_memory_measures_both_sides(tmp_path, capsys):
    rows = measure(
        tmp_path,
        "memory",
        "--batch=8",
        "--microbatch_size=4",
        "--width_multiplier=0.0625",
        "--image_size=16",
    )
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("step: memory", "MB"),
        ("step: time of an image", "ms"),
    ]
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in rows)


@pytest.mark.long
def test_augment_measures_both_sides(tmp_path, capsys):
    rows = measure(tmp_path, "augment", "--image_size=16,24", "--batch=6", "--batches=2")
    assert [row["setting"] for row in rows] == ["16 pixels, 6 views", "24 pixels, 6 views"]
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in rows)


@pytest.mark.long
def test_monitor_compares_a_measurement_with_the_training_before_it(tmp_path, shapes_dir, capsys):
    rows = measure(
        tmp_path,
        "monitor",
        "--preset=demo",
        f"--data_dir={shapes_dir}",
        "--width_multiplier=0.0625",
    )
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("a step", "ms"),
        ("a measurement", "ms"),
        ("cost", "%"),
    ]
    step, measurement, cost = rows
    assert measurement["baseline"] == pytest.approx(200 * step["ours"])  # 50 x 256 images
    assert cost["ours"] == pytest.approx(100 * measurement["ratio"])


@pytest.mark.long
def test_probes_measures_stages_and_marks_what_is_extrapolated(tmp_path, capsys):
    sizes = ("--examples=1000", "--features=16", "--classes=4", "--queries=50")
    rows = measure(tmp_path, "probes", *sizes, f"--work_dir={tmp_path}")
    times = [row for row in rows if row["unit"] == "s"]
    assert len(times) == 12
    for row, larger in zip(times[::2], times[1::2], strict=True):
        assert row["what"] == larger["what"] and row["origin"] == "measured"
        assert larger["origin"] == "computed"
        assert larger["setting"] == "extrapolated to 1,281,167 x 16, 4 classes"
        assert larger["ours"] == pytest.approx(1281.167 * row["ours"])
    assert [row["unit"] for row in rows if row not in times] == ["ps", "MB", "MB"]
    assert any("3 strengths, 3 converged" in row["what"] for row in times)
    assert not list(tmp_path.glob("tmp*")), "the features are removed"
