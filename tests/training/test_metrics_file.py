"""metrics.jsonl: what is written is read, each step once, and the file of a stranger is data."""

import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.errors import ConfigError
from tf_simclr.training import metrics_file
from tf_simclr.training.metrics_file import EVAL, MONITOR, TRAIN, Record

HEADER = {"format": "tf_simclr metrics", "version": 1}


def record(step, kind=TRAIN, **values):
    return Record(kind, step, step / 10, 1e9 + step, {"train/loss": float(step), **values})


def write(directory, *records):
    writer = metrics_file.Writer(str(directory))
    for each in records:
        writer.write(each)
    writer.close()


def lines(directory) -> list[dict]:
    """The file as any reader of JSON sees it, without the first line."""
    first, *rest = (directory / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first) == HEADER
    return [json.loads(line) for line in rest]


def steps(directory) -> list[int]:
    return [each.step for each in metrics_file.read(str(directory))]


def test_what_is_written_is_read(tmp_path):
    records = [
        Record(TRAIN, 4, 0.5, 1700000000.125, {"train/contrast_loss": 1 / 3, "learning_rate": 0.1}),
        Record(MONITOR, 4, 0.5, 1700000001.5, {"monitor/rankme": 7.0}, (1.0, 0.25), ("Lööks {b}",)),
        Record(TRAIN, 8, 1.0, 1700000002.0, {"train/contrast_loss": 0.3}),
    ]
    write(tmp_path / "runs" / "new", *records)
    assert metrics_file.read(str(tmp_path / "runs" / "new")) == records


def test_lines_are_json_with_the_names_of_the_schema(tmp_path):
    write(tmp_path, Record(MONITOR, 3, 1.5, 2.0004, {"a": 1.0}, [1.0, 0.5], ["look"]), record(5))
    assert lines(tmp_path) == [
        {
            "kind": "monitor",
            "step": 3,
            "epoch": 1.5,
            "time": 2.0,
            "values": {"a": 1.0},
            "spectrum": [1.0, 0.5],
            "warnings": ["look"],
        },
        {"kind": "train", "step": 5, "epoch": 0.5, "time": 1e9 + 5, "values": {"train/loss": 5.0}},
    ]


def test_numbers_of_numpy_and_tensorflow_are_numbers(tmp_path):
    values = {"a": np.float32(0.1), "b": tf.constant(0.5), "c": np.int64(3), "d": 4}
    write(tmp_path, Record(TRAIN, np.int64(1), np.float64(2), 3, values, np.float32([1, 0.5])))
    [found] = metrics_file.read(str(tmp_path))
    assert found.values == {"a": float(np.float32(0.1)), "b": 0.5, "c": 3.0, "d": 4.0}
    assert found.step == 1 and found.spectrum == (1.0, 0.5)


def test_what_is_not_finite_is_left_out(tmp_path):
    write(tmp_path, record(1, nan=math.nan, more=math.inf, less=np.float32(-np.inf), fine=2.0))
    write(tmp_path, Record(MONITOR, 1, 0, 0, {}, (1.0, math.nan)))
    training, monitoring = metrics_file.read(str(tmp_path))
    assert training.values == {"train/loss": 1.0, "fine": 2.0}
    assert monitoring.spectrum == ()


def test_no_file_is_no_record(tmp_path):
    assert metrics_file.read(str(tmp_path)) == metrics_file.read(str(tmp_path / "none")) == []
    metrics_file.drop_after(str(tmp_path / "none"), 0)
    assert list(tmp_path.iterdir()) == []


def test_records_are_in_the_order_of_steps_and_the_later_of_two_counts(tmp_path):
    write(tmp_path, record(8, EVAL), record(4), record(4, EVAL), record(8, EVAL, new=1.0))
    found = metrics_file.read(str(tmp_path))
    assert [(each.kind, each.step) for each in found] == [(TRAIN, 4), (EVAL, 4), (EVAL, 8)]
    assert found[-1].values["new"] == 1.0


def test_a_run_that_resumes_has_each_step_once(tmp_path):
    kinds = (TRAIN, MONITOR, EVAL)
    write(tmp_path, *(record(step, kind) for step in range(1, 8) for kind in kinds))
    metrics_file.drop_after(str(tmp_path), 5)
    write(tmp_path, *(record(step, kind) for step in range(6, 10) for kind in kinds[:2]))
    found = [(line["kind"], line["step"]) for line in lines(tmp_path)]
    assert len(set(found)) == len(found)
    assert set(found) == {
        *itertools.product(kinds[:2], range(1, 10)),
        *((EVAL, i) for i in range(1, 8)),
    }
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_run_that_begins_again_keeps_the_first_line_only(tmp_path):
    write(tmp_path, record(1), record(2))
    metrics_file.drop_after(str(tmp_path), 0)
    assert lines(tmp_path) == []
    write(tmp_path, record(1))
    assert len(lines(tmp_path)) == 1


def test_a_run_that_was_stopped_at_its_checkpoint_changes_nothing(tmp_path):
    write(tmp_path, record(1), record(2))
    before = (tmp_path / "metrics.jsonl").stat()
    metrics_file.drop_after(str(tmp_path), 2)
    after = (tmp_path / "metrics.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("resumes", [True, False], ids=["dropped", "only appended"])
def test_wherever_a_killed_process_stopped_only_its_last_line_is_lost(tmp_path, resumes):
    write(tmp_path, record(1), record(2))
    path = tmp_path / "metrics.jsonl"
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        # A record is complete with its last brace, the line break may be missing.
        complete = [step for step, end in zip((1, 2), ends[1:], strict=True) if cut >= end - 1]
        assert steps(tmp_path) == complete, cut
        if resumes:
            metrics_file.drop_after(str(tmp_path), 2)
        write(tmp_path, record(3))
        assert steps(tmp_path) == [*complete, 3], cut
        if resumes:
            assert len(lines(tmp_path)) == len(complete) + 1, cut


def test_a_process_that_is_killed_while_it_drops_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path, *map(record, range(1, 8)))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            metrics_file.drop_after(str(tmp_path), 5)
    assert steps(tmp_path) == list(range(1, 8))
    metrics_file.drop_after(str(tmp_path), 5)
    assert steps(tmp_path) == list(range(1, 6))
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    write(tmp_path, record(1), record(2))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl.unfinished").mkdir()
    with pytest.raises(ConfigError, match=r"^model_dir: records of .*\): free enough space"):
        metrics_file.drop_after(str(tmp_path), 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_training_goes_on_if_the_file_cannot_be_written(tmp_path, capsys):
    os.mkfifo(tmp_path / "metrics.jsonl")  # opening it would block
    writer = metrics_file.Writer(str(tmp_path))
    writer.write(record(1))
    writer.write(record(2))
    [message] = capsys.readouterr().err.splitlines()
    assert message.startswith(f"{tmp_path}/metrics.jsonl cannot be written (not a file)")
    assert metrics_file.read(str(tmp_path)) == []
    os.remove(tmp_path / "metrics.jsonl")
    writer.write(record(3))
    assert steps(tmp_path) == [3]


def test_a_full_disk_costs_the_records_that_do_not_fit_and_no_others(tmp_path, capsys, monkeypatch):
    """The disk takes half of step 2 and nothing of step 3; then there is space again."""
    writer = metrics_file.Writer(str(tmp_path))
    writer.write(record(1))
    file = writer._appender._file

    class Full:
        def write(self, content):
            return file.write(content[: len(content) // 2])

        def flush(self):
            file.flush()

        def close(self):
            file.close()

    writer._appender._file = Full()
    writer.write(record(2))
    with monkeypatch.context() as patch:
        patch.setattr(
            metrics_file.line_file,
            "_open",
            lambda *_: (_ for _ in ()).throw(OSError(28, "no space")),
        )
        writer.write(record(3))
    writer.write(record(4))
    writer.close()
    assert steps(tmp_path) == [1, 4]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_it_is_read_while_another_process_writes(tmp_path):
    """Each read sees the records so far: no error, none missing in between, none twice."""
    script = (
        "import sys, time\n"
        "from tf_simclr.training.metrics_file import Record, Writer\n"
        "writer = Writer(sys.argv[1])\n"
        "for step in range(2000):\n"
        "    writer.write(Record('train', step, 0.0, 0.0, {f'tag{i}': 1 / 3 for i in range(50)}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    seen = [0]
    while process.poll() is None or seen[-1] < 2000:
        found = steps(tmp_path)
        assert found == list(range(len(found))) and len(found) >= seen[-1]
        seen.append(len(found))
        assert process.poll() in (None, 0)
    assert process.wait() == 0


def test_reading_does_not_import_tensorflow(tmp_path):
    write(tmp_path, record(1))
    script = (
        "import sys\n"
        "from tf_simclr.training import metrics_file\n"
        "assert len(metrics_file.read(sys.argv[1])) == 1\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_a_file_at_a_url_goes_through_tensorflow(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/run"
    opened, original = [], tf.io.gfile.GFile
    monkeypatch.setattr(
        tf.io.gfile, "GFile", lambda path, mode: opened.append((path, mode)) or original(path, mode)
    )
    write(url, record(1), record(2))
    write(url, record(3))
    metrics_file.drop_after(url, 2)
    write(url, record(5))
    assert metrics_file.read(url) == [record(1), record(2), record(5)]
    assert len(lines(tmp_path / "run")) == 3
    assert opened and all(path.startswith(url) for path, _ in opened)


GOOD = {"kind": "train", "step": 7, "epoch": 0.5, "time": 1.0, "values": {"a": 1.0}}
HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "{}",
        '{"kind": "train", "step": 7',
        *(
            json.dumps({name: value for name, value in GOOD.items() if name != left_out})
            for left_out in GOOD
        ),
        *(
            json.dumps(GOOD | wrong)
            for wrong in (
                {"kind": "other"},
                {"kind": ["train"]},
                {"kind": None},
                {"step": -1},
                {"step": 7.0},
                {"step": True},
                {"step": "7"},
                {"step": 2**60},
                {"epoch": None},
                {"epoch": "0"},
                {"time": [1]},
                {"values": [1.0]},
                {"values": {"a": "1"}},
                {"values": {"a": True}},
                {"values": {"a": None}},
                {"values": {"a": {"b": 1.0}}},
                {"values": {"\ud800": 1.0}},
                {"spectrum": 1.0},
                {"spectrum": ["1"]},
                {"spectrum": {"0": 1.0}},
                {"spectrum": None},
                {"warnings": "text"},
                {"warnings": [1]},
                {"warnings": ["\udfff"]},
            )
        ),
        json.dumps(GOOD).replace("1.0}", "NaN}"),
        json.dumps(GOOD).replace("1.0}", "Infinity}"),
        json.dumps(GOOD).replace("1.0}", "1e999}"),
        json.dumps(GOOD).replace("1.0}", HUGE + "}"),
        json.dumps(GOOD).replace("7", "9" * 5000),
        json.dumps(GOOD).replace('"step"', '"kind": "train", "step"'),
        "[" * 100000,
        '{"a":' * 100000,
        "\0" * 100,
        b"\xff\xfe\xfd",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    ],
    ids=lambda line: str(line)[:60],
)
def test_a_line_that_is_no_record_is_skipped_and_the_others_are_read(tmp_path, line):
    line = line if isinstance(line, bytes) else line.encode()
    write(tmp_path, record(1))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(line + b"\n")
    write(tmp_path, record(9))
    assert metrics_file.read(str(tmp_path)) == [record(1), record(9)]
    metrics_file.drop_after(str(tmp_path), 3)
    assert steps(tmp_path) == [1]


def test_a_good_line_is_read_with_names_that_a_later_writer_may_add(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(GOOD | {"more": [1]}) + "\n")
    assert metrics_file.read(str(tmp_path)) == [Record(**GOOD)]


def test_a_very_long_line_is_skipped(tmp_path):
    write(tmp_path, record(1))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "' + b"a" * 2**22 + b'"}\n')
    write(tmp_path, record(2))
    assert steps(tmp_path) == [1, 2]


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    write(tmp_path, *map(record, range(100)))
    monkeypatch.setattr(metrics_file, "_MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="metrics.jsonl is larger than 1000 bytes: move it away"):
        metrics_file.read(str(tmp_path))
    metrics_file.drop_after(str(tmp_path), 49)  # a run that resumes does not fail
    monkeypatch.undo()
    assert steps(tmp_path) == list(range(50))


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(HEADER | {"version": 2}) + "\n" + json.dumps(GOOD) + "\n")
    before = path.read_bytes()
    for function in (metrics_file.read, lambda folder: metrics_file.drop_after(folder, 0)):
        with pytest.raises(ConfigError, match="has version 2, this program reads up to version 1"):
            function(str(tmp_path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_not_a_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "metrics.jsonl")
    assert metrics_file.read(str(tmp_path)) == []
    metrics_file.drop_after(str(tmp_path), 0)


@pytest.mark.parametrize("library", ["pandas", "json"])
def test_the_programs_in_the_documentation_read_it(tmp_path, repo_root, library):
    """A file with a line that was torn, and an evaluation that was repeated."""
    if library == "pandas":
        pytest.importorskip("pandas")
    text = (repo_root / "docs" / "metrics.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    [program] = [block for block in blocks if f"import {library}" in block]
    records = [Record(TRAIN, s, s / 2, 0.0, {"train/contrast_loss": s / 4}) for s in (1, 2, 3)]
    write(tmp_path, records[0], records[1])
    if library == "json":
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"kind": "train", "st')
    write(tmp_path, records[1], records[2])
    program = program.replace("runs/demo", str(tmp_path))
    names = {}
    exec("\n".join(line for line in program.splitlines() if ".plot" not in line), names)
    expected = [(1, 0.25), (2, 0.5), (3, 0.75)]
    if library == "pandas":
        assert list(names["table"]["train/contrast_loss"].items()) == expected
    else:
        assert names["loss"] == expected
