"""Accuracy against NumPy on a split that does not fill its last batch."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.training.evaluator import Evaluator, evaluation_step

RNG = np.random.default_rng(0)
CLASSES, BATCH, EXAMPLES = 7, 8, 21
LOGITS = RNG.normal(size=(EXAMPLES, CLASSES)).astype(np.float32)
TARGETS = RNG.integers(CLASSES, size=EXAMPLES)


def model(images, training):
    """The images are the logits."""
    assert training is False
    return {"logits_sup": images[:, 0, 0]}


def batches(bad=()) -> tf.data.Dataset:
    """Padding that would count as hits: its label is the class of its largest logit."""
    missing = -EXAMPLES % BATCH
    padding = np.zeros((missing, CLASSES), np.float32)
    padding[:, 3] = 1
    logits = np.concatenate([LOGITS, padding])[:, None, None]
    labels = np.concatenate([np.eye(CLASSES, dtype=np.float32)[TARGETS], padding])
    weights = np.concatenate([np.ones(EXAMPLES), np.zeros(missing)]).astype(np.float32)
    skipped = np.zeros_like(weights)
    skipped[list(bad)] = 1
    parts = EvalBatch(logits, labels, weights - skipped, skipped)
    return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)


def top(k: int, examples=EXAMPLES) -> float:
    order = np.argsort(-LOGITS[:examples], axis=1)[:, :k]
    return (order == TARGETS[:examples, None]).any(1).mean()


@pytest.mark.parametrize("number", [1, 2])
def test_accuracy_leaves_the_padding_out(replicas, number):
    strategy = replicas(number)
    found = Evaluator(strategy, model)(
        strategy.experimental_distribute_dataset(batches()), num_batches=3
    )
    assert found == pytest.approx(
        {"eval/label_top_1_accuracy": top(1), "eval/label_top_5_accuracy": top(5)}
    )
    assert 0 < top(1) < top(5) < 1


def test_what_cannot_be_decoded_is_counted_and_left_out(replicas):
    strategy = replicas(2)
    hits = np.argmax(LOGITS, axis=1) == TARGETS
    bad = [int(np.flatnonzero(hits)[0]), int(np.flatnonzero(~hits)[0]), EXAMPLES - 1]
    dataset = strategy.experimental_distribute_dataset(batches(bad))
    found = Evaluator(strategy, model)(dataset, num_batches=3)
    assert found["eval/skipped_examples"] == 3
    assert found["eval/label_top_1_accuracy"] == pytest.approx(np.delete(hits, bad).mean())


def without_labels(places):
    """A map that takes the labels of the examples at these places away."""

    def take_away(index, batch):
        missing = tf.reduce_any(index[:, None] == tf.constant(list(places), tf.int64), axis=1)
        return batch._replace(labels=tf.where(missing[:, None], 0.0, batch.labels))

    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(EXAMPLES + 3).batch(BATCH), batches()))
    return numbered.map(take_away)


def test_examples_without_a_label_are_counted_and_left_out(replicas):
    strategy = replicas(2)
    hits = np.argmax(LOGITS, axis=1) == TARGETS
    # Their label would be class 0 where all are 0.
    places = [int(np.flatnonzero(hits)[0]), int(np.flatnonzero(~hits)[0]), EXAMPLES - 1]
    dataset = strategy.experimental_distribute_dataset(without_labels(places))
    found = Evaluator(strategy, model)(dataset, num_batches=3)
    assert found["eval/unlabelled_examples"] == 3
    assert found["eval/label_top_1_accuracy"] == pytest.approx(np.delete(hits, places).mean())
    nothing = strategy.experimental_distribute_dataset(without_labels(range(EXAMPLES)))
    with pytest.raises(errors.UndecodableError, match="not one example .* has a label"):
        Evaluator(strategy, model)(nothing, num_batches=3)


def test_a_head_of_zeros_has_no_hits(replicas):
    strategy = replicas(1)
    level = batches().map(lambda batch: batch._replace(images=tf.zeros_like(batch.images)))
    dataset = strategy.experimental_distribute_dataset(level)
    found = Evaluator(strategy, model)(dataset, num_batches=3)
    assert found == {"eval/label_top_1_accuracy": 0.0, "eval/label_top_5_accuracy": 0.0}


@pytest.mark.parametrize("classes, has_top_5", [(2, False), (4, False), (5, True)])
def test_top_5_is_left_out_of_fewer_than_five_classes(replicas, classes, has_top_5):
    def cut(batch):
        return batch._replace(
            images=batch.images[..., :classes],
            labels=tf.one_hot(tf.zeros_like(batch.weights, tf.int32), classes),
        )

    strategy = replicas(1)
    dataset = strategy.experimental_distribute_dataset(batches().map(cut))
    found = Evaluator(strategy, model)(dataset, num_batches=3)
    assert found.keys() == {"eval/label_top_1_accuracy"} | (
        {"eval/label_top_5_accuracy"} if has_top_5 else set()
    )


def test_nothing_but_bad_examples_is_an_error(replicas):
    strategy = replicas(1)
    dataset = strategy.experimental_distribute_dataset(batches(range(EXAMPLES)))
    with pytest.raises(errors.UndecodableError, match="not one example"):
        Evaluator(strategy, model)(dataset, num_batches=3)


def test_all_evaluations_of_a_run_are_one_trace(replicas):
    strategy = replicas(2)
    traced, scale = [], tf.Variable(1.0)

    def counted(images, training):
        traced.append(images.shape)
        return {"logits_sup": scale * images[:, 0, 0]}

    evaluator = Evaluator(strategy, counted)
    dataset = strategy.experimental_distribute_dataset(batches())
    found = evaluator(dataset, num_batches=3)
    traces = len(traced)
    assert evaluator(dataset, num_batches=3) == found
    scale.assign(-1.0)
    assert evaluator(dataset, num_batches=3) != found, "the weights as they are"
    assert len(traced) == traces == 2, "one on each replica"


def test_takes_as_many_batches_as_it_is_told(replicas):
    strategy = replicas(1)
    dataset = strategy.experimental_distribute_dataset(batches())
    found = Evaluator(strategy, model)(dataset, num_batches=2)
    assert found["eval/label_top_1_accuracy"] == pytest.approx(top(1, examples=2 * BATCH))


def test_evaluation_step_counts_hits_without_padding():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 7)).astype(np.float32)
    labels = np.eye(7, dtype=np.float32)[rng.integers(7, size=12)]
    weights = np.float32([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0])
    calls = []

    def model(images, training):
        calls.append(training)
        return {"logits_sup": tf.constant(logits)}

    found = evaluation_step(model, EvalBatch(None, labels, weights, np.zeros(12, np.float32)))
    order = np.argsort(-logits, axis=1)
    target = labels.argmax(1)
    hits = {k: (order[:, :k] == target[:, None]).any(1) * weights for k in (1, 5)}
    assert calls == [False]
    assert float(found["top_1"]) == hits[1].sum()
    assert float(found["top_5"]) == hits[5].sum()
    assert float(found["examples"]) == 9
    assert 0 < hits[1].sum() < hits[5].sum() < 9
