"""Real clusters of 2 and 4 processes on this machine, against one process of as many replicas.

(One replica against several is tests/devices/test_replicas.py.)
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints import weights

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
# At the default temperature so small a model is so badly conditioned that float32's rounding grows
# to a thousandth within five steps.
TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--train_split=train[:64]",
    "--eval_split=test[:100]",
    "--eval_batch_size=24",
    "--learning_rate=0.03",
    "--temperature=1",
    "--train_summary_steps=1",
)
MINUTE = 60


def start(number: int, log_dir: Path, *arguments) -> list[subprocess.Popen]:
    """Starts run.py on `number` workers, each with its output in log_dir/worker_INDEX."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    log_dir.mkdir(exist_ok=True)
    workers = []
    for index in range(number):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with open(log_dir / f"worker_{index}", "a") as log:
            workers.append(
                subprocess.Popen(
                    small.command("--strategy=multi_worker", *arguments),
                    env=os.environ | {"TF_CONFIG": json.dumps(task)},
                    stdout=log,
                    stderr=log,
                )
            )
    return workers


def finish(workers, timeout=4 * MINUTE) -> list[int]:
    """The exit codes; whoever is not done in time is killed."""
    deadline = time.monotonic() + timeout
    try:
        return [worker.wait(max(0.1, deadline - time.monotonic())) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def wait_for(path: Path, workers):
    """Waits for a file that running workers will write."""
    while not path.exists():
        assert all(worker.poll() is None for worker in workers), "a worker ended too early"
        time.sleep(0.02)


def assert_same_weights(found, expected):
    """Up to rounding: the sums of four workers are not added in the same order."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.fixture(scope="module")
def tiny(shapes_dir):
    return (*TINY, f"--data_dir={shapes_dir}")


@pytest.mark.parametrize(
    "number, more",
    [
        (2, ("--profile_steps=2,4",)),
        pytest.param(
            4,
            (
                "--train_mode=finetune",
                "--from_scratch",
                "--optimizer=momentum",
                "--eval_every_epochs=0.5",
            ),
            marks=pytest.mark.shared,
        ),
    ],
)
def test_a_cluster_computes_what_one_process_does(tiny, tmp_path, events, number, more):
    settings = (*tiny, *more, "--train_steps=5", "--checkpoint_steps=3", "--mode=train_then_eval")
    cluster, single = tmp_path / "cluster", tmp_path / "single"
    workers = start(number, tmp_path / "logs", *settings, f"--model_dir={cluster}")
    program = [sys.executable, str(Path(__file__).parent / "one_process.py"), str(number)]
    subprocess.run([*program, *settings, f"--model_dir={single}"], check=True)
    logs = [tmp_path / "logs" / f"worker_{i}" for i in range(number)]
    assert finish(workers) == [0] * number, logs[0].read_text()[-2000:]

    for step in (3, 5):
        assert_same_weights(
            weights.read_weights(f"{cluster}/ckpt-{step}"),
            weights.read_weights(f"{single}/ckpt-{step}"),
        )
    losses = [events(folder)["train/total_loss"] for folder in (cluster, single)]
    assert list(losses[0]) == [1, 2, 3, 4, 5]
    for step, loss in losses[1].items():
        assert float(losses[0][step]) == pytest.approx(float(loss), rel=1e-5)
    results = [json.loads((folder / "result.json").read_text()) for folder in (cluster, single)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)

    # Only the chief writes and speaks.
    names = os.listdir(cluster)
    assert sorted(n for n in names if "tfevents" not in n) == sorted(
        n for n in os.listdir(single) if "tfevents" not in n
    )
    assert sum("tfevents" in name for name in names) == 1
    traces = list(cluster.glob("plugins/profile/*/*.xplane.pb"))
    assert len(traces) == any("profile" in setting for setting in more)
    loaded = tf.saved_model.load(str(cluster / "saved_model" / "5"))
    assert loaded(tf.zeros((1, 32, 32, 3)))["logits_sup"].shape == (1, 10)
    assert f"{number} CPUs of {number} workers" in logs[0].read_text()
    for log in logs[1:]:
        assert "step" not in log.read_text() and "Checkpoint:" not in log.read_text()


def test_a_cluster_that_loses_a_worker_stops(tiny, tmp_path):
    """The one that is left says so, and does not wait for ever."""
    workers = start(
        2,
        tmp_path / "logs",
        *tiny,
        "--train_steps=1000",
        "--checkpoint_steps=2",
        f"--model_dir={tmp_path / 'run'}",
    )
    wait_for(tmp_path / "run" / "ckpt-2.index", workers)
    workers[1].kill()
    assert finish(workers, MINUTE) == [os.EX_TEMPFAIL, -signal.SIGKILL]
    lines = (tmp_path / "logs" / "worker_0").read_text().splitlines()
    assert lines[-1].startswith(
        "run.py: worker 1 was lost, so this worker, worker 0, stops: restart all"
    )


@pytest.mark.shared
def test_a_cluster_that_loses_workers_goes_on(tiny, tmp_path):
    """SIGUSR1 to one worker, then kill -9 of one: all stop, and in the end nothing is different."""
    settings = (*tiny, "--train_steps=60", "--checkpoint_steps=10", "--keep_checkpoint_max=9")
    model_dir, logs = tmp_path / "run", tmp_path / "logs"
    command = (*settings, f"--model_dir={model_dir}")

    workers = start(2, logs, *command)
    wait_for(model_dir / "ckpt-10.index", workers)
    workers[1].send_signal(signal.SIGUSR1)
    assert finish(workers, MINUTE) == [128 + signal.SIGUSR1] * 2
    for index in range(2):
        text = (logs / f"worker_{index}").read_text()
        assert "SIGUSR1: stopped at step" in text and "the same command resumes" in text
    stopped = weights.find(str(model_dir))

    workers = start(2, logs, *command)
    wait_for(model_dir / "ckpt-30.index", workers)
    workers[1].kill()
    killed = time.monotonic()
    assert finish(workers, MINUTE) == [os.EX_TEMPFAIL, -signal.SIGKILL]
    assert time.monotonic() - killed < MINUTE
    lines = (logs / "worker_0").read_text().splitlines()
    assert lines[-1].startswith(
        "run.py: worker 1 was lost, so this worker, worker 0, stops: restart all"
    )
    assert "Traceback" not in (logs / "worker_0").read_text()

    assert finish(start(2, logs, *command)) == [0, 0]
    starts = [
        line
        for line in (logs / "worker_0").read_text().splitlines()
        if "steps" in line and " to 60 of 16 images on 2 CPUs of 2 workers" in line
    ]
    assert len(starts) == 3
    assert f"steps {stopped.rpartition('-')[2]} to" in starts[1]
    assert "steps 30 to" in starts[2] or "steps 40 to" in starts[2]

    undisturbed = tmp_path / "undisturbed"
    assert finish(start(2, logs, *settings, f"--model_dir={undisturbed}")) == [0, 0]
    assert_same_weights(
        weights.read_weights(f"{model_dir}/ckpt-60"),
        weights.read_weights(f"{undisturbed}/ckpt-60"),
    )
