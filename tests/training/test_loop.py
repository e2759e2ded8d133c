"""The loop with tiny steps: where it ends, saves, summarizes and stops."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data.batch import ViewBatch
from tf_simclr.training import device_loop, hooks, loop, metrics_file, reports

TAGS = {
    f"train/{name}"
    for name in (
        "weight_decay",
        "total_loss",
        "contrast_loss",
        "contrast_acc",
        "contrast_entropy",
        "supervised_loss",
        "supervised_acc",
        "skipped_examples",
        "unlabelled_examples",
    )
}
TAGS |= {"train/images_per_second", "train/input_wait", "learning_rate", "image"}


class Saves:
    """In the place of a Checkpointer: notes the steps at which it saves."""

    def __init__(self, step=0):
        self.step, self.saved, self.latest = step, [], None

    def save(self):
        if self.step not in self.saved:
            self.saved.append(self.step)
        self.latest = f"ckpt-{self.step}"


class Steps:
    """In the place of run_steps: step number s (from 0) has loss s, and skips what `skips` says.

    Each step waits `wait` seconds for its batch.
    """

    def __init__(
        self, saves, names=("total_loss",), before=lambda step: None, skips=None, wait=0.0
    ):
        self.saves, self.names, self.before, self.counts = saves, names, before, []
        self.skips, self.wait = skips or {}, wait

    def __call__(self, iterator, count):
        count = int(count)
        self.counts.append(count)
        losses, skips = [], []
        for _ in range(count):
            loss = self.before(self.saves.step)
            losses.append(float(self.saves.step) if loss is None else loss)
            skips.append(float(self.skips.get(self.saves.step, 0)))
            self.saves.step += 1
        rows = tf.constant(
            [
                [loss] * len(self.names) + [skip, 2 * skip]
                for loss, skip in zip(losses, skips, strict=True)
            ]
        )
        return rows, tf.fill((2, 4, 4, 3), 0.5), tf.fill((count,), np.float64(self.wait))


def run(
    tmp_path,
    steps,
    saves,
    *,
    total_steps=17,
    checkpoint_steps=5,
    summary_steps=4,
    evaluate=None,
    eval_every_steps=0,
    trace=None,
):
    """Trains with all hooks, as modes/train.py lists them."""
    step = saves.step

    def learning_rate(step):
        return 0.1 * step

    def to_record(kind, step, values):
        return metrics_file.Record(kind, step, step / 10, 0.0, values)

    writer, records = reports.open_writers(str(tmp_path), step, writes=True)
    metrics = reports.Metrics(steps.names, first_step=step, is_chief=True)
    speed = reports.Speed(batch_size=8)
    summaries = reports.Summaries(
        writer,
        metrics,
        speed,
        learning_rate,
        every_steps=summary_steps,
        records=records,
        to_record=to_record,
    )
    listed = [
        hooks.RequireFinite(steps.names, saves, learning_rate),
        metrics,
        speed,
        reports.Progress(
            "test",
            metrics,
            first_step=step,
            total_steps=total_steps,
            batch_size=8,
            is_chief=True,
        ),
        summaries,
    ]
    listed += [trace] if trace else []
    listed += [hooks.Evaluations(evaluate, every_steps=eval_every_steps)] if evaluate else []
    listed.append(hooks.Checkpoints(saves, summaries.flush, every_steps=checkpoint_steps))
    loop.train(
        steps,
        None,
        listed,
        strategy=tf.distribute.get_strategy(),
        first_step=step,
        total_steps=total_steps,
    )


def test_ends_at_the_last_step_and_saves_at_multiples_and_there(tmp_path):
    saves = Saves()
    steps = Steps(saves)
    run(tmp_path, steps, saves)
    assert saves.step == sum(steps.counts) == 17
    assert saves.saved == [5, 10, 15, 17]


def test_goes_on_from_the_checkpointers_step(tmp_path, events):
    saves = Saves(step=7)
    run(tmp_path, Steps(saves), saves)
    assert saves.step == 17 and saves.saved == [10, 15, 17]
    losses = events(tmp_path)["train/total_loss"]
    assert {step: float(v) for step, v in losses.items()} == {8: 7.0, 12: 9.5, 16: 13.5, 17: 16.0}


def test_does_nothing_at_the_last_step(tmp_path):
    saves = Saves(step=17)
    steps = Steps(saves)
    run(tmp_path, steps, saves)
    assert steps.counts == [] and saves.saved == []


def test_summaries_are_means_since_the_last_and_have_the_official_tags(tmp_path, events):
    saves = Saves()
    others = ("_examples", "_per_second", "input_wait")
    metrics = {tag for tag in TAGS if tag.startswith("train/") and not tag.endswith(others)}
    names = [tag.removeprefix("train/") for tag in metrics]
    run(tmp_path, Steps(saves, names), saves)
    found = events(tmp_path)
    assert set(found) == TAGS - {"train/unlabelled_examples"}
    records = metrics_file.read(str(tmp_path))
    assert [(each.kind, each.step, each.epoch) for each in records] == [
        ("train", step, step / 10) for step in (4, 8, 12, 16, 17)
    ]
    for record in records:
        # TensorBoard has float32.
        in_events = {tag: found[tag][record.step] for tag in found if record.step in found[tag]}
        in_events.pop("image", None)
        assert {tag: np.float32(value) for tag, value in record.values.items()} == in_events
    means = {4: 1.5, 8: 5.5, 12: 9.5, 16: 13.5, 17: 16.0}
    for tag in metrics:
        assert {step: float(value) for step, value in found[tag].items()} == means
    rates = {step: float(value) for step, value in found["learning_rate"].items()}
    assert rates == pytest.approx({step: 0.1 * step for step in means})
    width, height, *pngs = found["image"][17]
    assert (int(width), int(height), len(pngs)) == (4, 4, 2)
    image = tf.image.decode_png(pngs[0]).numpy()
    assert image.shape == (4, 4, 3) and abs(int(image[0, 0, 0]) - 128) <= 1


def test_skipped_examples_are_summed_up_in_summaries_and_in_the_end(tmp_path, events, capsys):
    saves = Saves(step=2)
    run(tmp_path, Steps(saves, skips={3: 2, 4: 1, 5: 4, 16: 3}), saves)
    found = events(tmp_path)
    counts = {4: 2, 8: 5, 12: 0, 16: 0, 17: 3}
    assert {step: int(v) for step, v in found["train/skipped_examples"].items()} == counts
    twice = {step: int(v) for step, v in found["train/unlabelled_examples"].items()}
    assert twice == {step: 2 * count for step, count in counts.items()}
    lines = [line for line in capsys.readouterr().err.splitlines() if " examples w" in line]
    assert lines == [
        "10 undecodable examples were replaced in steps 2 to 17 (--strict_data makes "
        "this an error)",
        "20 examples without a label were left out of the supervised loss in steps 2 to 17",
    ]


def test_a_stopped_run_says_how_many_examples_were_skipped(tmp_path, capsys):
    saves = Saves()
    steps = Steps(
        saves,
        before=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 6 else None,
        skips={1: 1, 9: 5},
    )
    with pytest.raises(hooks.Stopped):
        run(tmp_path, steps, saves, summary_steps=1)
    assert "1 undecodable examples were replaced in steps 0 to 7 (" in (capsys.readouterr().err)


def test_nothing_is_said_of_nothing_skipped(tmp_path, capsys):
    saves = Saves()
    run(tmp_path, Steps(saves), saves)
    assert "undecodable" not in capsys.readouterr().err


def test_evaluates_at_multiples_before_saving_but_not_at_the_end(tmp_path):
    saves = Saves(step=1)
    seen = []

    def evaluate():
        seen.append((saves.step, list(saves.saved)))

    settings = dict(total_steps=16, checkpoint_steps=8, evaluate=evaluate, eval_every_steps=4)
    run(tmp_path, Steps(saves), saves, **settings)
    assert seen == [(4, []), (8, []), (12, [8])]
    assert saves.saved == [8, 16]


def test_no_summary_steps_means_one_summary_at_the_end(tmp_path, events):
    saves = Saves()
    run(tmp_path, Steps(saves), saves, summary_steps=0)
    losses = events(tmp_path)["train/total_loss"]
    assert {step: float(v) for step, v in losses.items()} == {17: 8.0}


def test_a_fast_device_runs_many_steps_at_a_time_but_not_past_a_limit(tmp_path):
    saves = Saves()
    steps = Steps(saves)
    run(tmp_path, steps, saves, total_steps=1000, checkpoint_steps=400, summary_steps=300)
    assert steps.counts[:2] == [1, 1], "the first call compiles, the second is measured"
    assert len(steps.counts) < 20
    assert saves.saved == [400, 800, 1000]


def test_the_host_looks_in_every_two_seconds(tmp_path, monkeypatch):
    clock = [0.0]

    def work(step):
        clock[0] += 60 if step == 0 else 0.25  # compiles, then a quarter of a second a step

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    saves = Saves()
    steps = Steps(saves, before=work)
    run(tmp_path, steps, saves, total_steps=30, checkpoint_steps=100, summary_steps=0)
    assert steps.counts == [1, 1, 8, 8, 8, 4]


def test_workers_that_do_not_write_the_trace_take_as_many_steps_a_call(tmp_path, monkeypatch):
    clock = [0.0]

    def work(step):
        clock[0] += 0.1

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: None)
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: None)
    counts = []
    for writes in (True, False):
        saves = Saves()
        steps = Steps(saves, before=work)
        run(
            tmp_path,
            steps,
            saves,
            total_steps=60,
            checkpoint_steps=100,
            summary_steps=0,
            trace=hooks.Trace(str(tmp_path), 10, 20, writes=writes),
        )
        counts.append(steps.counts)
    assert counts[0] == counts[1] == [1, 1, 8, 10, 20, 20]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops(tmp_path, number):
    before = [signal.getsignal(n) for n in loop.STOP_SIGNALS]
    saves = Saves()
    steps = Steps(saves, before=lambda step: os.kill(os.getpid(), number) if step == 6 else None)
    with pytest.raises(hooks.Stopped) as stopped:
        run(tmp_path, steps, saves, summary_steps=1)
    assert stopped.value.signal == number
    assert saves.saved == [5, 7]
    text = str(stopped.value)
    assert number.name in text and "step 7 of 17" in text and "ckpt-7" in text
    assert [signal.getsignal(n) for n in loop.STOP_SIGNALS] == before


def test_a_signal_in_the_last_step_is_no_stop(tmp_path):
    saves = Saves()
    steps = Steps(
        saves, before=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 16 else None
    )
    run(tmp_path, steps, saves)
    assert saves.saved == [5, 10, 15, 17]


def test_a_second_ctrl_c_interrupts_at_once(tmp_path):
    def twice(step):
        if step == 2:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    saves = Saves()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Steps(saves, before=twice), saves)
    assert saves.saved == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_not_saved(tmp_path, bad):
    saves = Saves()
    steps = Steps(saves, before=lambda step: bad if step == 9 else None)
    with pytest.raises(hooks.NotFinite, match="--learning_rate") as error:
        run(tmp_path, steps, saves)
    assert saves.saved == [5]
    text = str(error.value)
    assert f"the loss is {bad} in step 10 at learning rate 0.9;" in text and "ckpt-5" in text


def test_run_steps_gives_the_means_over_the_replicas_step_by_step(replicas):
    strategy = replicas(2)
    batches = np.arange(24, dtype=np.float32).reshape(3, 8, 1) / 32

    def step(batch):
        mean = tf.reduce_mean(batch.labels)
        return {"total_loss": mean, "supervised_acc": mean**2}

    images = np.stack([np.full((8, 2, 4, 4, 3), i, np.float32) for i in range(3)])
    images[:, :, 1] = -1
    skipped = np.float32([[0] * 8, [1, 0, 0, 0, 0, 1, 1, 0], [0] * 8])
    dataset = tf.data.Dataset.from_tensor_slices(ViewBatch(images, batches, skipped))
    iterator = iter(strategy.experimental_distribute_dataset(dataset))
    previews = []

    def preview(batch, number):
        """Counts how often it runs, which should be once a call."""
        tf.py_function(lambda: previews.append(number), [], [])
        return batch.views[:number, 0]

    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
    run_steps = device_loop.make_run_steps(
        strategy,
        step,
        ("total_loss", "supervised_acc"),
        image_size=4,
        preview=preview,
        last_updated=variable,
    )
    rows, views, waits = run_steps(iterator, tf.constant(2))
    halves = batches[:2].reshape(2, 2, 4).mean(2)
    np.testing.assert_allclose(rows[:, 0], halves.mean(1), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 1], (halves**2).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(rows[:, 2], [0, 3])
    np.testing.assert_allclose(rows[:, 3], 8 - batches[:2].sum((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(views, np.ones((3, 4, 4, 3)))
    assert previews == [3, 3], "in the last step only, on each replica"
    rows, *_ = run_steps(iterator, tf.constant(1))
    np.testing.assert_allclose(rows[:, 0], [batches[2].mean()], rtol=1e-6)


def test_pictures_are_summarized_less_often_than_scalars(tmp_path, events):
    saves = Saves()
    run(tmp_path, Steps(saves), saves, total_steps=51, summary_steps=2, checkpoint_steps=100)
    found = events(tmp_path)
    assert sorted(found["train/total_loss"]) == [*range(2, 51, 2), 51]
    assert sorted(found["image"]) == [2, 22, 42, 51]


def test_a_log_has_lines_whose_rate_leaves_the_compilation_out(tmp_path, monkeypatch, capfd):
    clock = [0.0]

    def work(step):
        clock[0] += 60 if step == 3 else 0.5

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    saves = Saves(step=3)
    steps = Steps(saves, before=work)
    run(tmp_path, steps, saves, total_steps=100, checkpoint_steps=200, summary_steps=200)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("test")]
    assert lines == [
        "test: step 4 of 100, loss 3.000",
        "test: step 65 of 100, 16 images/s, loss 33.500, 00:17 left",
        "test: step 100 of 100, 16 images/s, loss 51.000",
    ]


@pytest.mark.parametrize("at", [5, 7])
def test_a_run_that_is_killed_and_goes_on_has_each_step_once(tmp_path, at):
    """Killed after step `at`, with the checkpoint of step 5 and maybe later summaries on disk."""
    saves = Saves()

    def kill(step):
        if step == at:
            raise SystemError

    with pytest.raises(SystemError):
        run(tmp_path, Steps(saves, before=kill), saves, summary_steps=1)
    saves = Saves(step=5)
    run(tmp_path, Steps(saves), saves, summary_steps=1)
    steps = [
        event.step
        for path in tmp_path.glob("*tfevents*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "train/total_loss"
    ]
    assert sorted(steps) == list(range(1, 18))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines[1:]] == list(range(1, 18))
    losses = [record.values["train/total_loss"] for record in metrics_file.read(str(tmp_path))]
    assert losses == list(range(17))


def test_the_speed_leaves_the_compilation_out(tmp_path, monkeypatch):
    """Steps of half a second, of which an eighth is a wait; the first also compiles for a minute"""
    clock = [0.0]

    def work(step):
        clock[0] += 60 if step == 3 else 0.5

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    saves = Saves(step=3)
    steps = Steps(saves, before=work, wait=0.0625)
    run(tmp_path, steps, saves, total_steps=14, summary_steps=4)
    figures = {
        record.step: (record.values["train/images_per_second"], record.values["train/input_wait"])
        for record in metrics_file.read(str(tmp_path))
        if "train/input_wait" in record.values
    }
    assert figures == {step: (16, 0.125) for step in (8, 12, 14)}, "none for step 4"


def test_the_share_of_the_wait_is_at_most_one():
    speed = reports.Speed(batch_size=8)
    chunk = hooks.Chunk(0, 2, 9, np.zeros((2, 1)), np.zeros((2, 2)), None, np.ones(2), 1.5, None)
    speed.after(chunk)
    assert speed.pop() == {"images_per_second": 8 * 2 / 1.5, "input_wait": 1.0}
    assert speed.pop() == {}
    speed.after(dataclasses.replace(chunk, seconds=None))
    assert speed.pop() == {}


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path):
    _, records = reports.open_writers(str(tmp_path), 0, writes=False)
    assert records is None and list(tmp_path.iterdir()) == []
