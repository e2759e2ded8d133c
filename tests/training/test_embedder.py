"""The embeddings of a run against the model itself, on one and two replicas; training unchanged."""

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr import compat, run_state
from tf_simclr.data.sources.opening import open_data
from tf_simclr.optim import policy
from tf_simclr.training import device_loop, embedder, monitor, run_input
from tf_simclr.training.embedder import Embedder, Embeddings
from tf_simclr.training.plan import make_plan

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def build(shapes_dir, tmp_path_factory):
    """Function: (strategy, flags) -> the state of a run of shapes."""

    def make(strategy, *flags):
        config = small.parse(
            *small.RUN,
            "--dataset=shapes",
            f"--data_dir={shapes_dir}",
            "--eval_split=test",
            f"--model_dir={tmp_path_factory.mktemp('run')}",
            "--monitor_images=64",
            "--train_steps=4",
            *flags,
        )
        source = open_data(config)
        plan = make_plan(config, source, evaluates=False)
        with small.one_block_a_group():
            return run_state.build(config, source, plan, strategy)

    return make


def make_embedder(state, count=64) -> Embedder:
    return Embedder(
        state.config, state.source, state.strategy, state.task, split="test", count=count
    )


def same_weights(states):
    """Gives all runs the weights of the first, without zeros that would hide the layers."""
    rng = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "moving_mean": (-0.2, 0.2), "moving_variance": (0.2, 0.6)}
    values = {}
    for path, variable in states[0].model.variables_by_path().items():
        low_high = ranges.get(path.rpartition("/")[2])
        values[path] = rng.uniform(*low_high, variable.shape) if low_high else np.array(variable)
    for state in states:
        for path, variable in state.model.variables_by_path().items():
            variable.assign(values[path])


@pytest.fixture(scope="module", params=["host", "device"])
def pair(request, build, replicas):
    """A run on one replica and the same on two, with as many images on each."""
    where = f"--augment_on={request.param}"
    one = build(tf.distribute.OneDeviceStrategy("CPU:0"), where)
    two = build(replicas(2), where, "--train_batch_size=32", "--global_bn=False")
    same_weights([one, two])
    return one, two


def test_two_replicas_embed_what_one_does(pair):
    results = [make_embedder(state)() for state in pair]
    # The device draws the boxes of small images for a group at a time, and groups are of two
    # replicas' images. The views of the host, and evaluation views, are the same.
    on_host = pair[0].config.augment.augment_on == "host"
    for name, a, b in zip(Embeddings._fields, *results, strict=True):
        assert a.shape == b.shape and len(a) == 64
        if on_host or name not in ("z1", "z2"):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
    values = [monitor.figures(result)[0] for result in results]
    assert values[0].keys() == values[1].keys()
    if on_host:
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-5)


def test_the_same_images_and_views_each_time_in_one_trace(pair, monkeypatch):
    state = pair[0]
    embed = make_embedder(state)
    first, second = embed(), embed()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    # As if the images were too large to keep.
    monkeypatch.setattr(embedder, "_MAX_KEPT_BYTES", 0)
    embed = make_embedder(state)
    for _ in range(2):
        for a, b in zip(first, embed(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert embed._embed_batch.experimental_get_tracing_count() == 1
    assert embed._batches is None


def test_evaluation_views_are_those_of_the_model(pair):
    state = pair[0]
    result = make_embedder(state)()
    sample = embedder.RandomSample(state.source, split="test", count=64, seed=embedder._SEED)
    examples = list(sample.encoded_examples("test").as_numpy_iterator())
    images = np.stack([state.source.decode(tf.constant(e["image"])) for e in examples]) / 255
    outputs = state.model(images.astype(np.float32), training=False)
    np.testing.assert_allclose(result.features, outputs["final_avg_pool"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        result.projections, outputs["proj_head_output"], rtol=1e-4, atol=1e-4
    )
    assert list(result.labels) == [e["label"] for e in examples]
    assert len(set(result.labels)) == 10, "the images are random ones"


def test_the_rows_are_the_two_views_of_the_images(pair):
    """The model on the views of each batch, one view after the other, gives the same rows."""
    state = pair[0]
    embed = make_embedder(state)
    result = embed()
    device_views = state.task.device_views.with_seed(embedder._SEED)
    expected = []
    for part, (batch, _) in enumerate(embed._view_batches(tf.distribute.InputContext())):
        views = device_views.views(batch, step=0, part=part)
        expected.append([state.model(view, training=False)["proj_head_output"] for view in views])
    z1, z2 = (np.concatenate(parts) for parts in zip(*expected, strict=True))
    assert np.abs(z1 - z2).max() > 1e-3, "two views, not one"
    np.testing.assert_allclose(result.z1, z1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.z2, z2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1], ids=["1 replica", "2 replicas"])
def test_padding_is_left_out(pair, number):
    """On one replica 3 batches hold 33 images, on two replicas 2 batches of 18."""
    result = make_embedder(pair[number], 33)()
    assert [len(part) for part in result] == [33] * 5
    assert len(np.unique(result.z1, axis=0)) == 33, "no image comes twice"


def test_training_is_the_same_to_the_bit(pair, build):
    """On two replicas with statistics of their own, which a measurement averages for itself."""
    strategy, where = pair[1].strategy, pair[1].config.augment.augment_on
    results = []
    for measures in (False, True):
        state = build(
            strategy, f"--augment_on={where}", "--train_batch_size=32", "--global_bn=False"
        )
        embed = make_embedder(state) if measures else lambda: None
        batches = run_input.train_batches(state.config, state.source, strategy, examples_seen=0)
        run_steps = device_loop.make_run_steps(
            strategy,
            state.train_step,
            state.metric_names,
            image_size=32,
            preview=state.preview,
            last_updated=policy.last_updated(state.model),
        )
        iterator, rows = iter(batches), []
        for _ in range(3):
            rows.append(run_steps(iterator, tf.constant(1))[0].numpy())
            embed()
        slots = compat.optimizer_slots(state.optimizer).values()
        variables = [
            *state.model.variables_by_path().values(),
            *(v for part in slots for v in part),
        ]
        results.append(rows + [part.numpy() for v in variables for part in local_parts(v)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def local_parts(variable) -> list:
    """The copies of a variable on all replicas."""
    variable = compat.tf_variable(variable)
    return getattr(variable, "values", None) or [variable]
