"""Event files after restarts: each step once, and everything that is not ours as it was."""

import collections
import itertools
import os

import pytest
import tensorflow as tf

from tf_simclr.errors import ConfigError
from tf_simclr.training import summaries


def write(directory, steps, *tags, close=True):
    """Writes a scalar for each tag and step to an event file of its own."""
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for step, tag in itertools.product(steps, tags):
            tf.summary.scalar(tag, float(step), step=step)
        if "train/total_loss" in tags:
            tf.summary.image("image", tf.zeros((1, 4, 4, 3)), step=max(steps))
    writer.close() if close else writer.flush()
    return writer


def counts(directory) -> dict[tuple[str, int], int]:
    """How often each (tag, step) stands in the event files of a directory."""
    return collections.Counter(
        (value.tag, event.step)
        for path in sorted(directory.glob("*tfevents*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    )


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


TAGS = ("train/total_loss", "learning_rate")


def test_a_run_that_goes_on_has_each_step_once(tmp_path):
    write(tmp_path, range(1, 8), *TAGS)
    summaries.drop_training_after(str(tmp_path), 5)
    assert set(counts(tmp_path)) == {(tag, step) for tag in TAGS for step in range(1, 6)}
    write(tmp_path, range(6, 10), *TAGS)
    found = counts(tmp_path)
    assert set(found.values()) == {1}
    assert {step for tag, step in found if tag == "learning_rate"} == set(range(1, 10))
    assert ("image", 9) in found and ("image", 7) not in found


def test_a_run_that_begins_again_leaves_no_empty_file(tmp_path):
    write(tmp_path, range(1, 8), *TAGS)
    summaries.drop_training_after(str(tmp_path), 0)
    assert contents(tmp_path) == {}


def test_a_run_that_was_stopped_at_its_checkpoint_changes_nothing(tmp_path):
    write(tmp_path, range(1, 8), *TAGS)
    before = contents(tmp_path)
    summaries.drop_training_after(str(tmp_path), 7)
    assert contents(tmp_path) == before


def test_other_writers_and_folders_are_left_alone(tmp_path):
    write(tmp_path, range(1, 8), "somebody/elses", "eval/label_top_1_accuracy")
    write(tmp_path / "eval", range(1, 8), *TAGS)
    (tmp_path / "train.tfevents.notes").write_text("mine")
    before = contents(tmp_path), contents(tmp_path / "eval")
    write(tmp_path, range(1, 8), *TAGS)
    summaries.drop_training_after(str(tmp_path), 0)
    assert (contents(tmp_path), contents(tmp_path / "eval")) == before


def test_what_a_killed_process_left_at_the_end_is_no_obstacle(tmp_path):
    """The last record is cut short, wherever kill -9 came."""
    write(tmp_path, range(1, 8), *TAGS)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    summaries.drop_training_after(str(tmp_path), 5)
    found = counts(tmp_path)
    assert max(step for _, step in found) == 5 and len(found) == 10


def test_a_process_that_is_killed_on_the_way_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path, range(1, 8), *TAGS)
    before = counts(tmp_path)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            summaries.drop_training_after(str(tmp_path), 5)
    assert counts(tmp_path) == before
    assert not [name for name in contents(tmp_path) if "tfevents" in name and "v2" not in name]
    summaries.drop_training_after(str(tmp_path), 5)
    assert len(list(tmp_path.iterdir())) == 1 and max(step for _, step in counts(tmp_path)) == 5


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path, range(1, 8), *TAGS)
    before = contents(tmp_path)

    def full(self, content):
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.io.gfile.GFile, "write", full)
    with pytest.raises(ConfigError, match=r"^model_dir: .*no space.*\): free enough space"):
        summaries.drop_training_after(str(tmp_path), 5)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"\xff" * 64, (2**60).to_bytes(8, "little") + bytes(99), b"\5" + bytes(40)],
    ids=["nothing", "zeros", "ones", "a huge record", "a short record"],
)
def test_files_that_hold_something_else_are_data(tmp_path, content):
    path = tmp_path / "events.out.tfevents.1.host.1.0.v2"
    path.write_bytes(content)
    summaries.drop_training_after(str(tmp_path), 0)
    assert path.read_bytes() == content


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "events.out.tfevents.1.host.1.0.v2")
    summaries.drop_training_after(str(tmp_path), 0)


def test_an_evaluation_that_is_repeated_replaces_the_first(tmp_path, events):
    folder = tmp_path / "eval"
    first = summaries.EvalSummaries(str(folder))
    for step in (4, 8):
        first.write({"eval/top": 0.1 * step, "eval/skipped_examples": 3.0}, step=step)
        assert ("eval/top", step) in counts(folder), "it can be seen at once"
    # A run that was killed after step 8 evaluates it again, in another process.
    again = summaries.EvalSummaries(str(folder))
    again.write({"eval/top": 0.5}, step=8)
    again.write({"eval/top": 0.6}, step=12)
    again.write({"eval/top": 0.7}, step=12)
    assert counts(folder) == {
        ("eval/top", 4): 1,
        ("eval/skipped_examples", 4): 1,
        ("eval/top", 8): 1,
        ("eval/top", 12): 1,
    }
    values = events(folder)["eval/top"]
    assert {step: float(v) for step, v in values.items()} == pytest.approx(
        {4: 0.4, 8: 0.5, 12: 0.7}
    )


def test_all_evaluations_of_a_process_share_a_file(tmp_path):
    writer = summaries.EvalSummaries(str(tmp_path))
    for step in range(5):
        writer.write({"eval/top": 0.5}, step=step)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 1
