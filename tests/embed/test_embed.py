"""tf-simclr embed on Beam's direct runner: each name once, also after a kill."""

import contextlib
import gc
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_inputs
import numpy as np
import pytest
import tensorflow as tf
from job_files import check_exactly_once, read_left_out, read_parquet

import small
from tf_simclr.cli import embed, main, search
from tf_simclr.embed import encoder, job, pipeline
from tf_simclr.embed.shard_readers import Item

pytest.importorskip("apache_beam", reason="the extra beam is not installed")

DIRECT = ("--files_per_shard=20", "--eval_batch_size=8")


def call(capsys, *words) -> str:
    """Runs the command in this process, and returns what it prints."""
    embed.main([str(word) for word in words])
    return capsys.readouterr().out


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as error:
        embed.main([str(word) for word in words])
    message = str(error.value)
    assert "\n" not in message
    return message


def modification_times(output: Path) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for folder in ("embeddings", "left_out", "finished", "inputs")
        for path in (output / folder).glob("*")
    }


@pytest.fixture(scope="module")
def small_checkpoint(checkpoint_of) -> Path:
    return checkpoint_of(32)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Changes to a folder with 5 images in photos/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(5):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(made_inputs.jpeg(index))
    return tmp_path


@pytest.fixture
def words(photos, small_checkpoint):
    """The words after "embed" for these images, in three shards."""
    return [
        f"--checkpoint={small_checkpoint}",
        "--image_size=32",
        "--input=photos",
        "--output=out",
        "--files_per_shard=2",
        "--eval_batch_size=4",
    ]


def test_a_restart_does_the_missing_shards_only(words, photos, capsys):
    (photos / "photos" / "bad.jpg").write_bytes(b"no")
    assert "5 images in 3 shards; left out 1" in call(capsys, *words)
    out = photos / "out"
    before, rows = modification_times(out), read_parquet(out)
    assert [name for name, _ in rows] == [f"photos/{i}.jpg" for i in range(5)]
    # As if it had been killed before the last receipt, with rests of another attempt.
    (out / "finished" / "00002.json").unlink()
    (out / "embeddings" / "00002-of-00003.parquet").write_bytes(b"half")
    (out / "left_out" / "00001-of-00003.jsonl").write_text("left by nobody\n")
    (out / "finished" / "00001.json").unlink()
    (out / "unfinished").mkdir()
    (out / "unfinished" / "x").write_bytes(b"half")
    assert "5 images in 3 shards; left out 1" in call(capsys, *words)
    assert re.search("now [34] in 2 shards", call_output(out))
    after = modification_times(out)
    changed = {Path(path).name[:5] for path in before if after[path] != before[path]}
    assert changed == {"00001", "00002"}
    check_rows_equal(read_parquet(out), rows)
    assert read_left_out(out) == [("photos/bad.jpg", "not a picture")]
    assert not (out / "unfinished").exists()
    assert "now 0 in 0 shards" in call(capsys, *words)


def call_output(out: Path) -> str:
    summary = json.loads((out / "summary.json").read_text())
    return f"now {summary['new_images']} in {summary['new_shards']} shards"


def check_rows_equal(rows, expected, tolerance=0.0):
    assert [name for name, _ in rows] == [name for name, _ in expected]
    for (_, row), (_, wanted) in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("--files_per_shard=3", "shards was 3, not 2"),
        ("--format=tfrecord", "format was 'parquet', not 'tfrecord'"),
        ("--image_size=24", "image_size was 32, not 24"),
        ("--max_megapixels=1", "settings was"),
        ("--input=more.jpg", "image_files was 5, not 6"),
        ("--checkpoint=other", "checkpoint was"),
    ],
)
def test_other_arguments_are_refused(words, photos, checkpoint_of, capsys, change, complaint):
    call(capsys, *words)
    (photos / "more.jpg").write_bytes(made_inputs.jpeg(7))
    if "checkpoint" in change:
        (photos / "other").symlink_to(checkpoint_of(32, seed=1))
    message = refused(capsys, *words, change)
    assert complaint in message and "give a new folder" in message


def test_embeddings_do_not_depend_on_the_batch_size(words, photos, capsys):
    call(capsys, *words)
    expected = read_parquet(photos / "out")
    call(capsys, *words, "--output=other", "--eval_batch_size=1")
    check_rows_equal(read_parquet(photos / "other"), expected, 1e-5)


def test_tfrecords_hold_the_same(words, photos, capsys):
    call(capsys, *words)
    call(capsys, *words, "--output=other", "--format=tfrecord")
    rows = []
    for path in sorted(map(str, (photos / "other" / "embeddings").iterdir())):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            values = np.array(feature["embedding"].float_list.value, np.float32)
            rows.append((feature["name"].bytes_list.value[0].decode(), values))
    check_rows_equal(rows, read_parquet(photos / "out"), 1e-6)


def test_errors_come_before_anything_is_written(words, photos, small_checkpoint, capsys):
    (photos / "full").mkdir()
    (photos / "full" / "mine.txt").write_text("keep")
    made_inputs.write_parquet(photos / "a.parquet", [b"x"], ["k"])
    cases = {
        ("--input=nothing*",): "input 'nothing*' matches no file",
        ("--output=full",): "output 'full' holds other files, such as 'mine.txt'",
        ("--output=full/mine.txt",): "is a file: give a folder",
        ("--checkpoint=nowhere",): "checkpoint 'nowhere' does not exist",
        ("--input=a.parquet", "--image_key=pixels"): "which has image, key",
        ("--input=a.parquet", "--name_key=k.y"): "name_key 'k.y' is not in 'a.parquet'",
        ("--image_siez=32",): "did you mean --image_size or",
        ("photos/b.jpg",): "unexpected 'photos/b.jpg': put a pattern with * in quotes",
        ("--max_megapixels=0",): "max_megapixels",
    }
    for change, complaint in cases.items():
        assert complaint in refused(capsys, *words, *change)
    assert sorted(os.listdir(photos)) == ["a.parquet", "full", "photos"]
    assert os.listdir(photos / "full") == ["mine.txt"]


def test_options_of_the_runner_go_to_beam(words, monkeypatch, capsys):
    seen = []

    def run(job, options):
        seen.append(options.get_all_options(drop_default=True, retain_unknown_options=True))
        return pipeline.Counts(1, 1, 0, 1, 1)

    monkeypatch.setattr(pipeline, "run", run)
    call(capsys, *words, "--runner=FlinkRunner", "--flink_master=h:1", "--", "--image_siez=1")
    assert seen[0]["runner"] == "FlinkRunner"
    assert seen[0]["flink_master"] == "h:1"
    assert seen[0]["image_siez"] in (1, "1")  # after -- it is none of ours


def test_without_beam_the_error_says_what_to_install(words, photos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert 'pip install "tf_simclr[beam]"' in refused(capsys, *words)
    assert not (photos / "out").exists()


def test_the_failure_of_a_worker_is_one_line(words, photos, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "embed_shard", fail)
    message = refused(capsys, *words)
    assert "No space left on device" in message and "repeat the command to go on" in message


def test_without_any_image_the_command_fails(words, photos, capsys):
    (photos / "none").mkdir()
    (photos / "none" / "a.jpg").write_bytes(b"no")
    message = refused(capsys, *[w for w in words if "--input" not in w], "--input=none")
    assert "not one of 1 images can be decoded: out/left_out says why" in message


def test_the_command_is_part_of_the_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tf-simclr", "embed", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert "--files_per_shard" in capsys.readouterr().out


def test_threads_share_one_model(words, photos, monkeypatch, capsys):
    opened = []
    original = encoder.Encoder.__init__
    monkeypatch.setattr(encoder, "_opened", [])
    monkeypatch.setattr(
        encoder.Encoder, "__init__", lambda *args: opened.append(1) or original(*args)
    )
    threads = ("--direct_running_mode=multi_threading", "--direct_num_workers=3")
    assert "5 images in 3 shards" in call(capsys, *words, *threads)
    assert len(opened) == 1


def test_bad_images_do_not_wait_for_a_good_one(words, photos, monkeypatch, capsys):
    call(capsys, *words)
    monkeypatch.setattr(encoder, "_MAX_LEFT_OUT", 2)
    [(_, opened)] = encoder._opened
    items = [Item("n", position, b"no") for position in range(5)]
    batches = list(opened.embed(items))
    assert [len(batch.left_out) for batch in batches] == [2, 2, 1]
    assert [row.position for batch in batches for row in batch.left_out] == [0, 1, 2, 3, 4]


def test_the_commands_of_the_page_parse(repo_root):
    page = (repo_root / "docs" / "embedding.md").read_text()
    blocks = re.findall(r"^    tf-simclr (embed|search) ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert len(blocks) >= 9
    for name, text in blocks:
        words = shlex.split(text.replace("\\\n", " "))
        if name == "search":
            search.make_parser("search").parse_args(words)
        else:
            _, unknown = embed.make_parser("embed").parse_known_args(words)
            assert {word.partition("=")[0][2:] for word in unknown} <= pipeline.option_names()


# --- Files at URLs, through a file system of Beam that keeps them in a folder.


@pytest.fixture
def remote(tmp_path, monkeypatch):
    from apache_beam.io import filesystem, localfilesystem

    folder = tmp_path / "remote"
    folder.mkdir()

    class Remote(localfilesystem.LocalFileSystem):
        """fake://x is folder/x."""

        @classmethod
        def scheme(cls):
            return "fake"

        def _here(self, path):
            return str(folder / path.removeprefix("fake://"))

        def join(self, base, *paths):
            return "/".join([base.rstrip("/"), *paths])

        def split(self, path):
            return tuple(path.rsplit("/", 1))

        def has_dirs(self):
            return False

        def _list(self, prefix):
            for file in filter(Path.is_file, sorted(folder.rglob("*"))):
                path = f"fake://{file.relative_to(folder)}"
                if path.startswith(prefix):
                    yield filesystem.FileMetadata(path, file.stat().st_size)

        def create(self, path, *args, **kwargs):
            return super().create(self._here(path), *args, **kwargs)

        def open(self, path, *args, **kwargs):
            return super().open(self._here(path), *args, **kwargs)

        def exists(self, path):
            return Path(self._here(path)).is_file()

        def rename(self, sources, targets):
            for source, target in zip(sources, targets, strict=True):
                Path(self._here(target)).parent.mkdir(parents=True, exist_ok=True)
                if self.exists(target):
                    raise OSError("this file system does not replace files")
                os.rename(self._here(source), self._here(target))

        def delete(self, paths):
            for path in paths:
                os.remove(self._here(path))

    yield folder
    monkeypatch.undo()
    del Remote
    gc.collect()  # Beam finds file systems among the subclasses that exist


def test_inputs_and_output_at_urls(words, photos, remote, capsys):
    call(capsys, *words)
    (remote / "in" / "deep").mkdir(parents=True)
    for index in range(3):
        (remote / "in" / f"{index}.jpg").write_bytes(made_inputs.jpeg(index))
    (remote / "in" / "deep" / "3.jpg").write_bytes(made_inputs.jpeg(3))
    made_inputs.write_tar(remote / "in" / "a.tar", {"4.jpg": made_inputs.jpeg(4)})
    urls = ("--input=fake://in/**/*.jpg", "--input=fake://in/*.tar", "--output=fake://out")
    words = [word for word in words if "put=" not in word] + [*urls]
    assert "5 images in 3 shards" in call(capsys, *words)
    rows = {name[-5:]: row for name, row in read_parquet(remote / "out")}
    names = sorted(name for name, _ in read_parquet(remote / "out"))
    deep = ["fake://in/a.tar/4.jpg", "fake://in/deep/3.jpg"]
    assert names == [*(f"fake://in/{i}.jpg" for i in range(3)), *deep]
    for name, row in read_parquet(photos / "out"):
        np.testing.assert_allclose(rows[name[-5:]], row, rtol=0, atol=1e-5)
    (remote / "out" / "finished" / "00001.json").unlink()
    assert "in 1 shards" in call(capsys, *words)
    assert not list((remote / "out").glob("unfinished/*"))


# --- By the command, at 224 pixels.


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of) -> Path:
    return checkpoint_of(224)


def command(checkpoint, output, *more) -> list[str]:
    words = made_inputs.arguments(checkpoint, output, "--image_size=224", *DIRECT, *more)
    return small.command(*words)


def run(folder, words) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def whole(inputs, checkpoint, tmp_path_factory):
    """The output of an uninterrupted job, and what it printed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return output, run(inputs[0], command(checkpoint, output))


@pytest.mark.long
def test_all_kinds_of_inputs(inputs, whole, checkpoint, tmp_path):
    folder, good, bad = inputs
    output, text = whole
    assert f"{len(good)} images in 9 shards; left out {len(bad)}" in text
    assert len(good) == 200
    check_exactly_once(output, good, bad)
    assert not list(folder.parent.glob("**/escaped.jpg")) and not Path("/absolute.jpg").exists()
    # The same embeddings as mode=predict of the same images.
    names = sorted(good)
    (tmp_path / "images").mkdir()
    for index, name in enumerate(names):
        (tmp_path / "images" / f"{index:03}.jpg").write_bytes(good[name])
    small.run(
        "--mode=predict",
        f"--checkpoint={checkpoint}",
        "--image_size=224",
        f"--images={tmp_path}/images",
        f"--output={tmp_path}/e.npy",
        "--eval_batch_size=20",
    )
    expected = np.load(tmp_path / "e.npy")
    found = np.stack([row for _, row in sorted(read_parquet(output), key=lambda row: row[0])])
    assert np.abs(expected - expected.mean(0)).max() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def kill_after(count, output: Path, process, kill):
    """Kills when so many shards are finished."""
    end = time.monotonic() + 200
    while len(list((output / "finished").glob("*.json"))) < count:
        assert process.poll() is None, "it has ended too early"
        assert time.monotonic() < end
        time.sleep(0.02)
    kill()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for a worker in /proc")
@pytest.mark.parametrize("killed", ["command", "worker"])
def test_a_killed_job_goes_on_where_it_was(inputs, whole, checkpoint, tmp_path, killed):
    folder, good, bad = inputs
    output = tmp_path / "out"
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    words = command(checkpoint, output, *(workers if killed == "worker" else ()))
    process = subprocess.Popen(
        words, cwd=folder, start_new_session=True, stderr=subprocess.PIPE, text=True
    )

    def kill():
        os.kill(worker_of(process.pid) if killed == "worker" else process.pid, signal.SIGKILL)

    try:
        kill_after(3, output, process, kill)
        # The direct runner does not replace a worker: the command fails, with a way out.
        message = process.communicate(timeout=100)[1]
        assert process.returncode == (1 if killed == "worker" else -signal.SIGKILL)
        assert ("repeat the command to go on" in message) == (killed == "worker")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    finished = {path.name for path in (output / "finished").glob("*.json")}
    assert 3 <= len(finished) < 9
    before = modification_times(output)
    assert f"in {9 - len(finished)} shards" in run(folder, words)
    after = modification_times(output)
    for path, time_before in before.items():
        if f"{Path(path).name[:5]}.json" in finished:
            assert after[path] == time_before
    check_exactly_once(output, good, bad)
    check_rows_equal(read_parquet(output), read_parquet(whole[0]), 1e-5)
    assert not (output / "unfinished").exists()


def worker_of(pid: int) -> int:
    """Returns a Beam worker among the descendants of the leader of a session."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            words = path.read_bytes().split(b"\0")
            worker = int(path.parent.name)
            is_worker = words[1:3] == [b"-m", b"apache_beam.runners.worker.sdk_worker_main"]
            if is_worker and os.getsid(worker) == pid:
                return worker
    raise AssertionError("there is no worker")
