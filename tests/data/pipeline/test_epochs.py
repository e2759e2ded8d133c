"""The order of the examples, compared with lists: no image twice in a batch, exact resume."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import streams
from tf_simclr.data.pipeline import epochs, seeds

SEED, NUM_EPOCHS = 3, 9
# (examples, examples of a step, shuffle buffer)
LONG = [(26, 8, 26), (26, 13, 26), (25, 12, 25), (40, 7, 10), (9, 4, 3), (8, 3, 1)]
SHORT = [(70, 64, 70), (100, 64, 100), (65, 64, 65), (127, 64, 127), (5, 5, 5), (3, 2, 3)]


def order(num_examples: int, step_size: int, buffer: int, start_example: int = 0):
    return epochs.Order(num_examples, step_size, start_example, buffer, SEED)


def read(num_examples: int):
    """Reads examples in a different order each epoch, as files are read."""

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        numbers = (tf.range(num_examples, dtype=tf.int64) * 7 + epoch) % num_examples
        return tf.data.Dataset.from_tensor_slices(
            {"image": tf.strings.as_string(numbers), "label": numbers}
        )

    return of_epoch


def stream(order, kind: str, count: int) -> list[int]:
    dataset = order.indices() if kind == "indices" else order.examples(read(order.num_examples))
    taken = dataset.take(count).as_numpy_iterator()
    return [int(x if kind == "indices" else x["label"]) for x in taken]


def expected(order, kind: str) -> list[int]:
    """Makes NUM_EPOCHS epochs by a loop over lists."""

    def shuffled(epoch: int) -> list[int]:
        numbers = tf.data.Dataset.range(order.num_examples)
        if kind == "examples":
            numbers = read(order.num_examples)(tf.constant(epoch, tf.int64)).map(
                lambda x: x["label"]
            )
        seed = seeds.derive_scalar(SEED, seeds.SHUFFLE, epoch)
        numbers = numbers.shuffle(order.buffer, seed=seed, reshuffle_each_iteration=False)
        return [int(number) for number in numbers.as_numpy_iterator()]

    count = NUM_EPOCHS * order.num_examples
    return streams.in_batches(map(shuffled, itertools.count()), count, order.step_size)


CASES = [(*c, "indices") for c in LONG + SHORT] + [(*c, "examples") for c in LONG]
SLOW = [(*c, "examples") for c in LONG[1:]]  # enter late many times, which takes seconds each


@pytest.mark.parametrize("num_examples, step_size, buffer, kind", CASES)
def test_no_example_comes_twice_in_a_batch(num_examples, step_size, buffer, kind):
    found = stream(order(num_examples, step_size, buffer), kind, NUM_EPOCHS * num_examples)
    assert found == expected(order(num_examples, step_size, buffer), kind)
    by_epoch = np.reshape(found, (NUM_EPOCHS, num_examples))
    assert (np.sort(by_epoch, axis=1) == np.arange(num_examples)).all()
    for begin in range(0, len(found), step_size):
        batch = found[begin : begin + step_size]
        assert len(set(batch)) == len(batch), f"batch from {begin} on"


@pytest.mark.parametrize(
    "num_examples, step_size, buffer, kind",
    [pytest.param(*case, marks=pytest.mark.long) if case in SLOW else case for case in CASES],
)
def test_a_stream_entered_late_goes_on_exactly(num_examples, step_size, buffer, kind):
    whole = stream(order(num_examples, step_size, buffer), kind, NUM_EPOCHS * num_examples)
    last = len(whole) - 2 * step_size
    for start in range(0, last, step_size * max(1, last // step_size // 12)):
        late = order(num_examples, step_size, buffer, start)
        assert stream(late, kind, 2 * step_size) == whole[start : start + 2 * step_size], start


def test_only_short_streams_are_worked_out_from_the_first_epoch():
    assert all(order(*case).needs_full_history for case in SHORT if case[0] % case[1])
    assert not any(order(*case).needs_full_history for case in LONG)
    assert order(26, 8, 26, 10**9)._entry()[1] >= 10**9 // 26 - 1


def test_more_rows_than_images_is_no_error():
    found = stream(order(3, 8, 3), "indices", 12)
    assert sorted(found) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
