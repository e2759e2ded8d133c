"""tf-simclr runs: the table of runs, for people and as CSV."""

import csv
import io
import os
import signal
import subprocess
import sys
import time

import pytest

import made_runs
import small
from tf_simclr.checkpoints import history
from tf_simclr.cli import main, runs, text_table

EVIL = "=cmd\x1b[31m<script>"


@pytest.fixture
def folder(tmp_path):
    made_runs.finished(tmp_path / "a")
    made_runs.finished(tmp_path / "sweep" / "run2", train_batch_size=32, last_loss=5.0)
    made_runs.finished(tmp_path / "sweep" / "run10", temperature=0.5)
    made_runs.settings(tmp_path / "unfinished")
    made_runs.start(tmp_path / "unfinished")
    return tmp_path


def answer(capsys, *arguments) -> str:
    runs.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as error:
        runs.main([str(argument) for argument in arguments])
    assert capsys.readouterr().out == ""
    message = str(error.value)
    assert "\n" not in message
    return message


def table(capsys, *arguments) -> list[dict[str, str]]:
    text = answer(capsys, *arguments, "--csv")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_table_for_people(folder, capsys):
    assert answer(capsys, folder).splitlines() == [
        "run          state        step  data       kNN  top-1   loss  differs from the first",
        "a            finished  800/800  cifar10  70.0%  80.0%  4.100",
        "sweep/run2   finished  800/800  cifar10  70.0%  80.0%  5.000  train_batch_size 32",
        "sweep/run10  finished  800/800  cifar10  70.0%  80.0%  4.100  temperature 0.5",
        "unfinished   stopped            cifar10                       train_steps 0",
    ]


def test_csv_has_all_columns_and_full_precision(folder, capsys):
    text = answer(capsys, folder, "--csv")
    assert text.count("\r\n") == text.count("\n") == 5
    first, *_ = table(capsys, folder)
    assert first == {
        "name": "a",
        "state": "finished",
        "step": "800",
        "total_steps": "800",
        "data": "cifar10",
        "knn": "0.7",
        "top_1": "0.8",
        "probe": "",
        "loss": "4.1",
        "model_dir": str(folder / "a"),
        "differs": "",
    }


def test_no_cell_of_the_csv_is_a_formula(tmp_path, capsys):
    for name in ("=1+1", "+1", "-1", "@x", "'x", 'a,"b', "c\nd", "e\x1b[0m"):
        made_runs.settings(tmp_path / name)
    names = {row["name"] for row in table(capsys, tmp_path)}
    assert names == {"'=1+1", "'+1", "'-1", "'@x", "''x", 'a,"b', "c\\nd", "e\\x1b[0m"}


@pytest.mark.parametrize(
    "column, first, last", [("loss", "a", "unfinished"), ("state", "a", "unfinished")]
)
def test_sorting(folder, capsys, column, first, last):
    names = [row["name"] for row in table(capsys, folder, f"--sort={column}")]
    assert (names[0], names[-1]) == (first, last)


def test_accuracies_begin_with_the_highest_and_missing_ones_are_last(folder, capsys):
    (folder / "sweep" / "run2" / "result.json").write_text(
        '{"eval/label_top_1_accuracy": 0.99, "global_step": 800}'
    )
    found = table(capsys, folder, "--sort=top_1")
    assert [row["top_1"] for row in found] == ["0.99", "0.8", "0.8", ""]
    assert found[1]["differs"] and not found[0]["differs"]  # the first row is the reference


def test_an_unknown_column_is_an_error_that_names_the_columns(folder, capsys):
    message = refused(capsys, folder, "--sort=los")
    assert "--sort must be one of name, state, step" in message
    assert "got 'los'; did you mean loss?" in message


def test_nothing_found_is_one_line_with_a_way_out(tmp_path, capsys):
    assert "no runs below" in refused(capsys, tmp_path) and refused(capsys, tmp_path).count("give")
    assert "there is no directory" in refused(capsys, tmp_path / "missing")
    assert "\\x1b" in refused(capsys, tmp_path / "\x1b[31m")


def test_names_cannot_command_the_terminal(tmp_path, capsys):
    made_runs.settings(tmp_path / EVIL)
    made_runs.settings(tmp_path / "right\u202eleft")
    made_runs.settings(tmp_path / os.fsdecode(b"caf\xe9"))
    made_runs.start(tmp_path / EVIL)
    history.end(str(tmp_path / EVIL), history.DIVERGED, step=3)
    text = answer(capsys, tmp_path)
    assert "=cmd\\x1b[31m<script>  diverged" in text
    assert "right\\u202eleft" in text and "caf\\udce9" in text
    assert not any(c < " " and c != "\n" for c in text)


def test_damaged_files_are_notes_on_stderr(folder, capsys):
    (folder / "a" / "result.json").write_text("{")
    runs.main([str(folder)])
    output, errors = capsys.readouterr()
    assert output.count("\n") == 5
    (line,) = errors.splitlines()
    assert line.startswith("a: ") and "result.json is not valid JSON" in line


def test_notes_are_bounded(tmp_path, capsys):
    for i in range(runs.MAX_NOTES + 5):
        made_runs.settings(tmp_path / f"run{i}")
        (tmp_path / f"run{i}" / "result.json").write_text("{")
    runs.main([str(tmp_path)])
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == runs.MAX_NOTES + 1 and errors[-1] == "... and 5 more notes"


def test_a_narrow_terminal_shows_everything(folder):
    made_runs.finished(
        folder / "a-run-with-a-very-long-name-that-does-not-fit-into-eighty-columns",
        learning_rate=1.5,
        optimizer="momentum",
        temperature=0.25,
        weight_decay=1e-4,
    )
    found, _ = runs.find(str(folder))
    lines = runs.to_text(found, width=80).splitlines()
    assert max(map(text_table.width_of, lines)) <= 80
    assert "    differs from the first: temperature 0.25, optimizer momentum," in lines
    assert any("a-run-with-a" in line and "…" in line for line in lines)
    wide = runs.to_text(found, width=150).splitlines()
    assert max(map(text_table.width_of, wide)) <= 150 and "differs from the first" in wide[0]


@pytest.mark.parametrize("width", range(1, 12))
def test_shortening(width):
    assert text_table.width_of(text_table.shorten("abcdefghij", width)) == min(width, 10)
    assert text_table.width_of(text_table.shorten("中文字符名称", width)) <= width
    assert text_table.shorten("abcdefghij", 5) == "ab…ij"


def test_a_reader_that_ends_early_is_no_error(folder, repo_root):
    command = [sys.executable, str(repo_root / "run.py"), "runs", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(60)


def test_main_dispatches(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tf-simclr", "runs", str(folder), "--sort=knn"])
    main.main()
    assert "sweep/run10" in capsys.readouterr().out


def test_the_command_needs_no_tensorflow(folder):
    code = (
        "import sys; from tf_simclr.cli import runs;"
        f"runs.main([{str(folder)!r}]); assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "sweep/run10" in done.stdout, done.stderr


# --- Runs made by real commands.


def line(model_dir) -> dict[str, str]:
    done = small_runs(model_dir.parent, "--csv")
    found = {row["name"]: row for row in csv.DictReader(io.StringIO(done, newline=""))}
    return found[model_dir.name]


def small_runs(*arguments) -> str:
    command = small.command("runs", *map(str, arguments))
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.shared
def test_a_run_that_is_stopped_resumed_and_finished(shapes_dir, tmp_path):
    model_dir = tmp_path / "run"
    flags = (
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:64]",
        "--eval_split=test[:100]",
        "--train_summary_steps=1",
        f"--model_dir={model_dir}",
    )
    command = small.command(*flags, "--mode=train", "--train_steps=100000")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    metrics = model_dir / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, process)
    going_on = line(model_dir)
    assert going_on["state"] == "training" and going_on["total_steps"] == "100000"
    assert int(going_on["step"]) > 0 and float(going_on["loss"]) > 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    process.stderr.close()
    stopped = line(model_dir)
    assert stopped["state"] == "stopped" and int(stopped["step"]) >= int(going_on["step"])
    steps = int(stopped["step"]) + 3
    small.run_alone(*flags, "--mode=train_then_eval", "--probe_summary", f"--train_steps={steps}")
    finished = line(model_dir)
    assert finished["state"] == "finished"
    assert finished["step"] == finished["total_steps"] == str(steps)
    assert 0 <= float(finished["top_1"]) <= 1 and 0 <= float(finished["probe"]) <= 1
    first, second = history.read(str(model_dir))
    assert first.end.reason == "stopped" and first.end.step == second.step == steps - 3
    assert (first.num_train, first.device) == (64, "1 CPU")


@pytest.mark.long
@pytest.mark.shared
def test_a_run_that_diverges_is_listed_as_diverged(shapes_dir, tmp_path):
    small.run_alone(
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:64]",
        "--mode=train",
        "--optimizer=momentum",
        "--learning_rate=1e30",
        "--train_steps=50",
        f"--model_dir={tmp_path / 'run'}",
        expect=1,
    )
    assert line(tmp_path / "run")["state"] == "diverged"
    (start,) = history.read(str(tmp_path / "run"))
    assert "the loss is" in start.end.message
