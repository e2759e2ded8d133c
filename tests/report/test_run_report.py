"""`show run`: the report on runs that real commands have made."""

import html.parser
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hostile_pictures
import small
from tf_simclr.errors import ConfigError
from tf_simclr.report import content, run_report

ROOT = Path(__file__).resolve().parents[2]
SHAPES = (*small.RUN, "--dataset=shapes", "--eval_split=test[:100]", "--train_split=train[:200]")


class Headings(html.parser.HTMLParser):
    """Collects the headings of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self._open = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("h1", "h2"):
            self.found.append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("h1", "h2")

    def handle_data(self, data):
        if self._open:
            self.found[-1] += data.strip()


def show(*arguments, expect: int = 0) -> subprocess.CompletedProcess:
    """Runs `show run` by its command."""
    words = [sys.executable, str(ROOT / "tools" / "show.py"), "run", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr[-3000:]
    return done


# --- Without a run.


def test_what_is_no_run_is_an_error_with_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match="is not the directory of a run"):
        run_report.read([str(tmp_path)])
    with pytest.raises(ConfigError, match="at most 20 runs, got 21"):
        run_report.read(["x"] * 21)


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    report = content.Report("x", "today", (), {}, None, (), ())
    with pytest.raises(ConfigError, match="cannot be written"):
        run_report.write(str(tmp_path / "missing" / "report.html"), report)
    run_report.write(str(tmp_path / "report.html"), report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# --- Real runs.


@pytest.fixture(scope="module")
def runs(shapes_dir, tmp_path_factory):
    """Two runs with other temperatures; the first one ends with a report."""
    folder = tmp_path_factory.mktemp("runs")
    data = (f"--data_dir={shapes_dir}", "--train_steps=4", "--train_summary_steps=1")
    small.run(
        *SHAPES,
        *data,
        "--monitor_images=64",
        "--mode=train_then_eval",
        "--probe_summary",
        f"--model_dir={folder}/first",
    )
    small.run(*SHAPES, *data, "--temperature=0.5", f"--model_dir={folder}/second")
    return folder


@pytest.mark.long
def test_a_run_with_probes_ends_with_a_report(runs):
    text = (runs / "first" / "report.html").read_text()
    headings = Headings(text).found
    wanted = ["Training", "Diagnostics", "Evaluation", "Map of the embeddings", "Nearest neighbors"]
    assert [heading for heading in wanted if heading not in headings] == []
    assert "finished, step 4 of 4" in text and len(text) < 3e6
    assert not (runs / "second" / "report.html").exists()


@pytest.mark.long
def test_the_command_writes_the_same_report_from_the_files(runs):
    before = (runs / "first" / "report.html").read_text()
    files = sorted(path.name for path in (runs / "first").iterdir())
    done = show(runs / "first")
    assert done.stdout.startswith(f"Report: {runs}/first/report.html (")
    assert sorted(path.name for path in (runs / "first").iterdir()) == files
    after = (runs / "first" / "report.html").read_text()
    assert Headings(after).found == Headings(before).found
    # The figures of the end of the run and those from the files are the same.
    for name in ("raw pixels", "before training", "after training"):
        assert before.count(name) == after.count(name) > 0


@pytest.mark.long
def test_several_runs_are_compared(runs, tmp_path):
    output = tmp_path / "comparison.html"
    show(runs / "first", runs / "second", f"--output={output}")
    text = output.read_text()
    assert "2 runs" in Headings(text).found[0]
    assert "Map of the embeddings" not in Headings(text).found
    assert "temperature" in text and "--no_images" not in text


@pytest.mark.long
def test_without_the_data_the_report_says_so(runs, tmp_path):
    config = json.loads((runs / "second" / "config.json").read_text())
    config["settings"]["Data"]["data_dir"] = str(tmp_path / "gone")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (runs / "second").iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "config.json").write_text(json.dumps(config))
    done = show(copy)
    assert "Map, neighbors and confusions are left out: data_dir must be" in done.stderr
    assert "left out" in (copy / "report.html").read_text()
    assert "Note" not in show(copy, "--no_images").stdout


@pytest.mark.long
def test_wrong_arguments_are_one_line(runs, tmp_path):
    for arguments, words in [
        ([runs / "first", f"--output={tmp_path}/x.txt"], "output must end in .html"),
        ([runs / "first", f"--output={tmp_path}/no/x.html"], "is not a writable folder"),
        ([tmp_path], "is not the directory of a run"),
        ([runs / "first", runs / "first"], "is named twice"),
        ([runs / "first", "--method=magic"], "method must be one of"),
    ]:
        error = show(*arguments, expect=1).stderr
        assert words in error and error.count("\n") == 1, error


@pytest.mark.long
@pytest.mark.both_stacks
def test_a_run_on_a_folder_at_the_usual_size(tmp_path):
    """Default settings and 224 pixels; only width, depth and steps are shrunk."""
    pictures = tmp_path / "pictures"
    for split in ("train", "test"):
        for name in ("<script>alert(1)<_script>", "dog"):
            image = hostile_pictures.saved(hostile_pictures.noise(300), format="JPEG")
            hostile_pictures.write(pictures / split / name, {f"{i}.jpg": image for i in range(12)})
    small.run_alone(
        "--dataset=folder",
        f"--data_dir={pictures}",
        "--eval_split=test",
        "--train_batch_size=16",
        "--eval_batch_size=8",
        "--train_steps=2",
        "--resnet_depth=18",
        "--width_multiplier=0.0625",
        f"--model_dir={tmp_path}/run",
    )
    show(tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert(1)" not in text and "alert(1)" in text
    assert "Map of the embeddings" in Headings(text).found
