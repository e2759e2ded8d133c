"""NT-Xent against Algorithm 1 of the paper, written out, and against golden numbers."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import tpu_strategy

from tf_simclr.devices.replicas import gather
from tf_simclr.losses.nt_xent import (
    automatic_block_rows,
    logits,
    nt_xent_stacked,
    split_projections,
)


def algorithm_1(z, temperature: float) -> float:
    """Computes L of Algorithm 1 (arXiv:2002.05709). z: (2N, d), where z_{2k-1} and z_{2k} pair."""
    two_n = len(z)

    def s(i, j):
        return z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j]))

    def ell(i, j):
        others = [np.exp(s(i, k) / temperature) for k in range(two_n) if k != i]
        return -np.log(np.exp(s(i, j) / temperature) / sum(others))

    pairs = [(2 * k, 2 * k + 1) for k in range(two_n // 2)]
    return sum(ell(i, j) + ell(j, i) for i, j in pairs) / two_n


def interleaved(hidden) -> np.ndarray:
    """Reorders all views a and then all views b to the pairs of Algorithm 1, in float64."""
    a, b = np.split(hidden.astype(np.float64), 2)
    return np.stack([a, b], axis=1).reshape(hidden.shape)


def literal(hidden, temperature: float) -> float:
    """Computes the loss of the official code, which is twice that of the paper."""
    return 2 * algorithm_1(interleaved(hidden), temperature)


def hiddens(n=5, d=6, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2 * n, d)).astype(np.float32)


def with_gradient(hidden, **settings) -> dict[str, tf.Tensor]:
    """Returns the metrics of NT-Xent, and the gradient of the loss."""
    hidden = tf.convert_to_tensor(hidden)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        results = nt_xent_stacked(hidden, **settings)
    return results | {"gradient": tape.gradient(results["contrast_loss"], hidden)}


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_equals_algorithm_1(n, temperature):
    hidden = hiddens(n) * 3
    loss = nt_xent_stacked(hidden, temperature=temperature)["contrast_loss"]
    np.testing.assert_allclose(loss, literal(hidden, temperature), rtol=1e-5, atol=1e-6)


def test_gradient_is_that_of_algorithm_1():
    """Takes central differences of the transcription in float64."""
    hidden, temperature, h = hiddens(), 0.2, 1e-5
    gradient = with_gradient(hidden, temperature=temperature)["gradient"]
    expected = np.zeros(hidden.shape)
    for index in np.ndindex(hidden.shape):
        up, down = hidden.astype(np.float64), hidden.astype(np.float64)
        up[index] += h
        down[index] -= h
        expected[index] = (literal(up, temperature) - literal(down, temperature)) / (2 * h)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block_rows", [0, 3])
@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_golden_numbers_on_one_replica(golden, case, block_rows):
    g = np.load(golden("ntxent.npz"))
    temperature, norm = float(g[f"{case}_temperature"]), bool(g[f"{case}_hidden_norm"])
    hidden = g[f"{case}_hidden"]
    results = with_gradient(
        hidden, temperature=temperature, hidden_norm=norm, block_rows=block_rows
    )
    names = {
        "contrast_loss": "loss",
        "gradient": "grad",
        "contrast_acc": "contrast_acc",
        "contrast_entropy": "contrast_entropy",
    }
    for name, golden_name in names.items():
        np.testing.assert_allclose(results[name], g[f"{case}_{golden_name}"], rtol=1e-4, atol=1e-5)
    all_logits = logits(*split_projections(hidden, hidden_norm=norm), temperature=temperature)
    np.testing.assert_allclose(all_logits, g[f"{case}_logits_ab"], rtol=1e-4, atol=1e-5)


# With and without padding, even and odd numbers of blocks, blocks of a single row.
@pytest.mark.parametrize("n, block_rows", [(12, 4), (13, 4), (12, 6), (7, 1)])
# One symmetric case, and two in which a single exponential for both anchors could overflow.
@pytest.mark.parametrize("hidden_norm, temperature", [(True, 0.1), (True, 0.01), (False, 0.5)])
def test_blocks_of_rows_are_exact(n, block_rows, hidden_norm, temperature):
    settings = dict(hidden_norm=hidden_norm, temperature=temperature)
    hidden = hiddens(n) * 2
    exact = with_gradient(hidden.astype(np.float64), block_rows=n, **settings)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        blocks = with_gradient(hidden.astype(dtype), block_rows=block_rows, **settings)
        for name, expected in exact.items():
            assert blocks[name].dtype == dtype or name == "contrast_acc"
            scale = max(np.abs(expected).max(), 1e-3)  # an entropy of 0 has no relative error
            np.testing.assert_allclose(
                blocks[name], expected, rtol=0, atol=tolerance * scale, err_msg=name
            )


@pytest.mark.parametrize(
    "hidden_norm, temperature, noise",
    [
        (True, 0.1, 0.1),
        (True, 0.05, 1.0),
        (True, 0.02, 1.0),
        (False, 10.0, 1.0),
    ],
)
@pytest.mark.parametrize("block_rows", [16, 24])
def test_losses_near_zero_are_exact_too(block_rows, hidden_norm, temperature, noise):
    """At the end of training the views agree, and the loss is the small rest of 1 - p."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(64, 128))
    hidden = np.concatenate([a, a + noise * rng.normal(size=a.shape)])
    settings = dict(hidden_norm=hidden_norm, temperature=temperature)
    exact = with_gradient(hidden, block_rows=64, **settings)
    assert 0 < exact["contrast_loss"] < 0.1
    blocks = with_gradient(hidden.astype(np.float32), block_rows=block_rows, **settings)
    for name in ("contrast_loss", "gradient"):
        scale = np.abs(exact[name]).max()
        np.testing.assert_allclose(blocks[name], exact[name], rtol=0, atol=1e-5 * scale)


def test_a_loss_of_nothing_is_not_negative():
    hidden = np.repeat(np.eye(8, dtype=np.float32)[None], 2, axis=0).reshape(16, 8)
    for settings in (
        dict(temperature=0.01),
        dict(temperature=0.05, block_rows=3),
        dict(temperature=0.001, block_rows=3),
        dict(temperature=0.001, block_rows=3, hidden_norm=False),
    ):
        results = with_gradient(hidden, **settings)
        assert 0 <= results["contrast_loss"] < 1e-6
        assert np.isfinite(results["gradient"]).all()


def test_blocks_of_rows_compile():
    """Of equal images the first counts as the most similar, as in the dense matrix."""
    hidden = tf.constant(np.repeat(hiddens(2), 5, axis=0))  # each five times
    call = tf.function(lambda h: with_gradient(h, temperature=0.1, block_rows=4), jit_compile=True)
    dense = with_gradient(hidden, temperature=0.1, block_rows=10)
    for name, value in call(hidden).items():
        np.testing.assert_allclose(value, dense[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert dense["contrast_acc"] <= 0.2


def test_automatic_blocks():
    assert automatic_block_rows(512) >= 512  # one block holds all rows
    assert automatic_block_rows(8192) == 512
    assert automatic_block_rows(65536) * 65536 * 4 <= 2**24
    assert automatic_block_rows(2**30) == 1


def distributed(run_on, strategy, slices, temperature, block_rows=0) -> list[dict]:
    """Returns the losses and the gradients of loss / replicas, summed as in the training step."""

    def replica(hidden):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            results = nt_xent_stacked(hidden, temperature=temperature, block_rows=block_rows)
            loss = results["contrast_loss"] / len(slices)
        return results | {"gradient": tape.gradient(loss, hidden)}

    return run_on(strategy, replica, slices)


@pytest.mark.parametrize("number, block_rows", [(2, 0), (4, 0), (2, 3), (4, 3)])
def test_golden_numbers_on_replicas(golden, replicas, run_on, number, block_rows):
    g = np.load(golden("ntxent.npz"))
    slices, temperature = g[f"r{number}_hidden"], float(g[f"r{number}_temperature"])
    assert slices.shape[1] / 2 > block_rows
    results = distributed(run_on, replicas(number), slices, temperature, block_rows)
    losses = [r["contrast_loss"] for r in results]
    np.testing.assert_allclose(losses, g[f"r{number}_loss"], rtol=1e-4)
    gradients = [r["gradient"] for r in results]
    np.testing.assert_allclose(gradients, g[f"r{number}_grad"], rtol=1e-4, atol=1e-5)


def test_golden_numbers_with_the_all_gather_of_tpus(golden, replicas, run_on, monkeypatch):
    """The all_gather of TPUStrategy sums padded parts, which must have a static shape."""
    for name in ("all_gather", "_compute_all_gather_output_shape"):
        method = getattr(tpu_strategy._TPUReplicaContext, name)
        monkeypatch.setattr(tf.distribute.ReplicaContext, name, method, raising=False)
    g = np.load(golden("ntxent.npz"))
    results = distributed(run_on, replicas(2), g["r2_hidden"], float(g["r2_temperature"]))
    np.testing.assert_allclose([r["contrast_loss"] for r in results], g["r2_loss"], rtol=1e-4)
    gradients = [r["gradient"] for r in results]
    np.testing.assert_allclose(gradients, g["r2_grad"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n, m", [(5, 10), (None, None)])
def test_shapes_are_static_where_they_can_be(replicas, monkeypatch, n, m):
    """TPUs need static shapes, and some strategies lose them in all_gather."""
    all_gather = tf.distribute.ReplicaContext.all_gather

    def forgetful(context, value, axis):
        return tf.compat.v1.placeholder_with_default(all_gather(context, value, axis), None)

    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_gather", forgetful)
    shapes = []

    def replica(hidden):
        results = with_gradient(hidden, temperature=0.5)
        shapes.append((gather(hidden[:n]).shape, results["gradient"].shape))
        return results

    run = tf.function(lambda hidden: replicas(2).run(replica, args=(hidden,)))
    traced = run.get_concrete_function(tf.TensorSpec((n and 2 * n, 6)))
    assert {tuple(map(tuple, pair)) for pair in shapes} == {((m, 6), (n and 2 * n, 6))}
    losses = replicas(2).experimental_local_results(traced(tf.constant(hiddens()))["contrast_loss"])
    assert np.isfinite(losses).all() and len(losses) == 2


@pytest.mark.parametrize("block_rows", [0, 2])
@pytest.mark.parametrize("number", [2, 4])
def test_replicas_equal_one_replica_with_the_whole_batch(replicas, run_on, number, block_rows):
    n, temperature = 3, 0.3
    slices = np.stack([hiddens(n, seed=r) for r in range(number)])
    batch = np.concatenate([*slices[:, :n], *slices[:, n:]])
    single = with_gradient(batch, temperature=temperature)
    results = distributed(run_on, replicas(number), slices, temperature, block_rows)
    for name in ("contrast_loss", "contrast_acc", "contrast_entropy"):
        np.testing.assert_allclose(np.mean([r[name] for r in results]), single[name], rtol=1e-5)
    a, b = np.split(single["gradient"].numpy(), 2)
    expected = np.concatenate([a.reshape(number, n, -1), b.reshape(number, n, -1)], axis=1)
    gradients = [r["gradient"] for r in results]
    np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-6)


def test_gather_concatenates_in_order_and_sums_the_gradients_of_all(replicas, run_on):
    parts = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    weights = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)

    def replica(part, weight):
        with tf.GradientTape() as tape:
            tape.watch(part)
            gathered = gather(part)
            loss = tf.reduce_sum(gathered * weight)
        return {"gathered": gathered, "gradient": tape.gradient(loss, part)}

    for number, result in enumerate(run_on(replicas(3), replica, parts, weights)):
        np.testing.assert_array_equal(result["gathered"], parts.reshape(6, 2))
        expected = weights.sum(0)[2 * number : 2 * number + 2]
        np.testing.assert_allclose(result["gradient"], expected, rtol=1e-5)


def test_accuracy_and_entropy_look_at_the_other_view_only():
    """Views a resemble one another, but each is closest to its positive among views b."""
    a = np.eye(4, dtype=np.float32) + 5
    b = np.eye(4, dtype=np.float32)
    results = nt_xent_stacked(np.concatenate([a, b]), temperature=0.5)
    assert float(results["contrast_acc"]) == 1
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    logits = unit @ b.T / 0.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(results["contrast_entropy"], -(p * np.log(p)).sum(1).mean(), 1e-5)
    swapped = nt_xent_stacked(np.concatenate([a, b[[1, 0, 2, 3]]]), temperature=0.5)
    assert float(swapped["contrast_acc"]) == 0.5


def test_length_of_the_hiddens_counts_only_without_hidden_norm():
    hidden = hiddens()
    settings = dict(temperature=0.5)
    unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    scaled = hidden * np.linspace(0.5, 2, len(hidden), dtype=np.float32)[:, None]
    expected = float(nt_xent_stacked(hidden, **settings)["contrast_loss"])
    for same in (scaled, unit):
        assert float(nt_xent_stacked(same, **settings)["contrast_loss"]) == pytest.approx(
            expected, 1e-5
        )
    plain = nt_xent_stacked(unit, hidden_norm=False, **settings)["contrast_loss"]
    assert float(plain) == pytest.approx(expected, 1e-5)
    raw = nt_xent_stacked(scaled, hidden_norm=False, **settings)["contrast_loss"]
    assert abs(float(raw) - expected) > 0.01


def test_half_precision_is_computed_in_float32():
    hidden = hiddens().astype(np.float16)
    results = nt_xent_stacked(tf.constant(hidden), temperature=0.1)
    assert results["contrast_loss"].dtype == tf.float32
    expected = literal(hidden.astype(np.float32), 0.1)
    np.testing.assert_allclose(results["contrast_loss"], expected, rtol=1e-5)


def test_xla_gives_the_same():
    hidden = tf.constant(hiddens())
    compiled = tf.function(lambda h: with_gradient(h, temperature=0.1), jit_compile=True)(hidden)
    for name, value in with_gradient(hidden, temperature=0.1).items():
        np.testing.assert_allclose(compiled[name], value, rtol=1e-4, atol=1e-5)
