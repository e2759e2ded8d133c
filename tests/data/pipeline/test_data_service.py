"""tf.data service on loopback: the batches are those of the local pipeline, each once."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import streams
from tf_simclr import experiment
from tf_simclr.cli import flags
from tf_simclr.data.pipeline import service
from tf_simclr.data.sources import tfds_source
from tf_simclr.errors import ConfigError

NUM_WORKERS, NUM_EXAMPLES, BATCH = 2, 22, 4


@pytest.fixture(scope="module")
def address(data_service):
    with data_service(NUM_WORKERS) as address:
        yield address


@pytest.fixture(scope="module")
def source(shapes_dir):
    return tfds_source.open_source("shapes", str(shapes_dir))


def batches(source, number: int, reader: service.Service | None, consumers=1, **changes) -> list:
    """Returns the first batches as arrays (views, labels, skipped)."""
    consumers = reader.num_consumers if reader else consumers
    settings = dict(split=f"train[:{NUM_EXAMPLES}]", service=reader) | changes
    dataset = streams.train(
        source,
        train_mode="pretrain",
        image_size=40,  # larger than 32: colors are compiled, in the worker too
        batch_size=BATCH,
        global_batch_size=BATCH * consumers,
        **settings,
    )
    return list(itertools.islice(dataset.as_numpy_iterator(), number))


def assert_same(found, expected):
    for first, second in zip(found, expected, strict=True):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def positions(found: list, expected: list) -> list[int]:
    """Finds each batch of found in expected; fails where one is missing or comes twice."""
    result = []
    for batch in found:
        (position,) = [i for i, each in enumerate(expected) if np.array_equal(each[0], batch[0])]
        assert_same([batch], [expected[position]])
        result.append(position)
    assert len(set(result)) == len(result)
    return result


def assert_in_turns(rounds: list[int]):
    """Asserts that each tf.data worker made all of its rounds in their order."""
    for worker in range(NUM_WORKERS):
        made = [number for number in rounds if number % NUM_WORKERS == worker]
        assert made == list(range(worker, worker + NUM_WORKERS * len(made), NUM_WORKERS))


def test_batches_are_those_of_the_local_pipeline(address, source):
    """Over more than two epochs, which end within a batch."""
    found = batches(source, 12, service.Service(address, "one consumer"))
    assert found[0][0].shape == (BATCH, 2, 40, 40, 3)
    assert_in_turns(positions(found, batches(source, 24, None)))


def test_a_later_start_goes_on_where_the_stream_was(address, source):
    found = batches(source, 8, service.Service(address, "resumed"), start_example=4 * BATCH)
    assert_in_turns(positions(found, batches(source, 20, None)[4:]))


def test_consumers_share_the_stream(address, source):
    """Two consumers, both of whom must ask for a round at the same time."""
    readers = [service.Service(address, "shared", index, 2) for index in range(2)]
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda reader: batches(source, 6, reader), readers))
    expected = batches(source, 24, None, consumers=2)
    first, second = (positions(found, expected) for found in both)
    assert [place + 1 for place in first] == second
    assert_in_turns([place // 2 for place in first])


def test_an_epoch_of_few_batches_comes_through_the_service(address, source):
    """Its examples are rows of a tensor that each tf.data worker holds."""
    few = dict(split="train[:7]")
    found = batches(source, 8, service.Service(address, "few"), **few)
    assert_in_turns(positions(found, batches(source, 20, None, **few)))


def test_a_dispatcher_that_does_not_answer_is_told_at_once(free_ports):
    (port,) = free_ports(1)
    with pytest.raises(ConfigError, match=f"data_service grpc://localhost:{port}: no dispatcher"):
        service.check(f"grpc://localhost:{port}")


def run(shapes_dir, model_dir, *more):
    settings = flags.parse(
        [
            "run.py",
            "--dataset=shapes",
            f"--data_dir={shapes_dir}",
            "--train_split=train[:64]",
            "--image_size=16",
            "--resnet_depth=18",
            "--width_multiplier=0.0625",
            "--train_batch_size=8",
            "--train_steps=2",
            "--seed=3",
            f"--model_dir={model_dir}",
            *more,
        ]
    )
    return experiment.run(settings.config)


@pytest.mark.long
def test_a_run_reads_through_the_service(address, shapes_dir, tmp_path):
    result = run(shapes_dir, tmp_path / "run", f"--data_service={address}")
    assert result["step"] == 2 and os.path.exists(tmp_path / "run" / "ckpt-2.index")


@pytest.mark.long
def test_a_run_without_its_dispatcher_leaves_nothing(free_ports, shapes_dir, tmp_path):
    (port,) = free_ports(1)
    with pytest.raises(ConfigError, match="no dispatcher answers"):
        run(shapes_dir, tmp_path / "run", f"--data_service=grpc://localhost:{port}")
    assert not (tmp_path / "run").exists()
