"""LARS against golden trajectories and a NumPy transcription."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.optim.lars import LARS
from tf_simclr.optim.schedule import WarmUpAndCosineDecay

VARIANTS = {
    "classic": dict(use_nesterov=False, classic_momentum=True),
    "nesterov": dict(use_nesterov=True, classic_momentum=True),
    "popular": dict(use_nesterov=False, classic_momentum=False),
    "popular_nesterov": dict(use_nesterov=True, classic_momentum=False),
}
EXCLUDED = ("batch_normalization", "bias", "head_supervised")


def variables_like(arrays) -> list:
    """Makes variables of a layer, with either version of Keras."""
    layer = keras.layers.Layer()
    return [
        layer.add_weight(
            name=f"v{i}", shape=a.shape, initializer=lambda shape, dtype=None, a=a: tf.constant(a)
        )
        for i, a in enumerate(arrays)
    ]


def steps(optimizer, variables, gradients) -> list[list[np.ndarray]]:
    """Returns the values of the variables after each step."""
    optimizer.build(variables)
    weights = []
    for step in gradients:
        pairs = list(zip(map(tf.constant, step), variables, strict=True))
        compat.apply_gradients(optimizer, pairs)
        weights.append([np.array(tf.convert_to_tensor(v)) for v in variables])
    return weights


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_trajectories(golden, variant):
    g = np.load(golden("lars.npz"))
    names = [key.removeprefix("init|") for key in g if key.startswith("init|")]
    excluded = [i for i, name in enumerate(names) if any(part in name for part in EXCLUDED)]
    optimizer = LARS(
        float(g["learning_rate"]),
        momentum=float(g["momentum"]),
        weight_decay=float(g["weight_decay"]),
        eeta=float(g["eeta"]),
        exclude_from_weight_decay=excluded,
        exclude_from_layer_adaptation=excluded,
        **VARIANTS[variant],
    )
    variables = variables_like([g[f"init|{name}"] for name in names])
    gradients = [[g[f"grad{step}|{name}"] for name in names] for step in range(5)]
    for step, weights in enumerate(steps(optimizer, variables, gradients)):
        for name, value in zip(names, weights, strict=True):
            expected = g[f"{variant}|step{step + 1}|{name}"]
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7, err_msg=name)


def transcription(w, gradients, *, lr, momentum, decay, eeta, nesterov, classic, adapts, decays):
    """Computes section 4 of You et al. (arXiv:1708.03888) and the "popular" variant in float64."""
    w, v, path = w.astype(np.float64), 0.0, []

    def trust(update):
        norms = np.linalg.norm(w), np.linalg.norm(update)
        return eeta * norms[0] / norms[1] if adapts and all(norms) else 1.0

    for step, g in enumerate(gradients):
        g = g + decay * w if decays else g.astype(np.float64)
        if classic:
            scaled = lr(step) * trust(g) * g
            v = momentum * v + scaled
            w = w - (momentum * v + scaled if nesterov else v)
        else:
            v = momentum * v + g
            update = momentum * v + g if nesterov else v
            w = w - lr(step) * trust(update) * update
        path.append(w)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_transcription_with_a_schedule_and_separate_exclusions(variant):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((3, 4), (5,), (2, 3), (4,))]
    gradients = [[rng.normal(size=a.shape).astype(np.float32) for a in arrays] for _ in range(4)]
    optimizer = LARS(
        WarmUpAndCosineDecay(2.0, warmup_steps=2, total_steps=5),
        momentum=0.8,
        weight_decay=0.1,
        eeta=0.01,
        exclude_from_weight_decay=[2, 1],
        exclude_from_layer_adaptation=[3, 1],
        **VARIANTS[variant],
    )
    weights = steps(optimizer, variables_like(arrays), gradients)
    rates = [0.0, 1.0, 2.0, 2.0 * 0.75]
    for i, array in enumerate(arrays):
        expected = transcription(
            array,
            [g[i] for g in gradients],
            lr=rates.__getitem__,
            momentum=0.8,
            decay=0.1,
            eeta=0.01,
            nesterov=VARIANTS[variant]["use_nesterov"],
            classic=VARIANTS[variant]["classic_momentum"],
            adapts=i not in (1, 3),
            decays=i not in (1, 2),
        )
        for step in range(4):
            np.testing.assert_allclose(weights[step][i], expected[step], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_trust_is_one_where_a_norm_is_zero(variant):
    one, zero = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    optimizer = LARS(0.5, momentum=0.0, eeta=0.001, **VARIANTS[variant])
    ((from_zero, by_zero),) = steps(optimizer, variables_like([zero, one]), [[one, zero]])
    np.testing.assert_allclose(from_zero, -0.5 * one)
    np.testing.assert_array_equal(by_zero, one)


def test_defaults_are_those_of_the_official_code():
    config = LARS().get_config()
    assert config["eeta"] == 0.001 and config["momentum"] == 0.9
    assert config["classic_momentum"] and not config["use_nesterov"]
    assert config["exclude_from_weight_decay"] == config["exclude_from_layer_adaptation"] == []


@pytest.mark.parametrize("positions", [[3], [-1], [0, 17]])
@pytest.mark.parametrize("which", ["exclude_from_weight_decay", "exclude_from_layer_adaptation"])
def test_positions_beyond_the_variables(which, positions):
    optimizer = LARS(**{which: positions})
    with pytest.raises(ValueError, match="3 variables, but positions .* are excluded"):
        optimizer.build(variables_like([np.ones(1, np.float32)] * 3))


@pytest.mark.parametrize(
    "learning_rate", [0.25, WarmUpAndCosineDecay(2.0, warmup_steps=2, total_steps=5)]
)
def test_config_round_trip_keeps_the_schedule_and_the_exclusions(learning_rate):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3)).astype(np.float32) for _ in range(3)]
    gradients = [[rng.normal(size=(2, 3)).astype(np.float32)] * 3 for _ in range(3)]
    optimizer = LARS(
        learning_rate,
        momentum=0.7,
        weight_decay=0.3,
        eeta=0.02,
        use_nesterov=True,
        classic_momentum=False,
        exclude_from_weight_decay=[1],
        exclude_from_layer_adaptation=[2, 0],
        name="mine",
    )
    serialized = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    expected = steps(optimizer, variables_like(arrays), gradients)
    for copy in (
        LARS.from_config(optimizer.get_config()),
        keras.optimizers.deserialize(serialized),
    ):
        assert isinstance(copy, LARS) and copy.get_config() == optimizer.get_config()
        assert copy.get_config()["exclude_from_weight_decay"] == [1]
        assert copy.get_config()["exclude_from_layer_adaptation"] == [0, 2]
        np.testing.assert_array_equal(steps(copy, variables_like(arrays), gradients), expected)


def test_has_one_slot_a_variable():
    arrays = [np.ones((2, 3), np.float32), np.ones(4, np.float32)]
    optimizer = LARS()
    optimizer.build(variables_like(arrays))
    slots = compat.optimizer_slots(optimizer)
    assert set(slots) == {"momentum"}
    assert [tuple(slot.shape) for slot in slots["momentum"]] == [(2, 3), (4,)]
    before = list(map(id, optimizer.momentums))
    optimizer.build(variables_like(arrays))
    assert list(map(id, optimizer.momentums)) == before, "building again keeps the slots"
