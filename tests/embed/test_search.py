"""tf-simclr search: the nearest embeddings by cosine, of a job that really ran."""

import os
import sys
from pathlib import Path

import job_files
import made_inputs
import numpy as np
import pytest

from tf_simclr.cli import embed, main, search
from tf_simclr.cli.text_table import printable
from tf_simclr.embed import vectors

pytest.importorskip("apache_beam", reason="the extra beam is not installed")
pytest.importorskip("faiss", reason="the extra beam is not installed")

NUM_IMAGES = 60
EVIL = "evil\x1b[31m\t.jpg"


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of) -> Path:
    return checkpoint_of(32)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with images, and an archive without a good one."""
    root = tmp_path_factory.mktemp("search")
    (root / "photos").mkdir()
    for index in range(NUM_IMAGES):
        name = EVIL if index == 7 else f"{index:02}.jpg"
        (root / "photos" / name).write_bytes(made_inputs.jpeg(index))
    made_inputs.write_tar(root / "bad.tar", {"bad.jpg": b"no"})
    return root


def run_job(root, checkpoint, format):
    """Embeds the images in several shards."""
    embed.main(
        [
            f"--checkpoint={checkpoint}",
            "--image_size=32",
            f"--input={root}/photos",
            f"--input={root}/bad.tar",
            f"--output={root}/{format}",
            f"--format={format}",
            "--files_per_shard=25",
            "--eval_batch_size=8",
        ]
    )


@pytest.fixture(scope="module")
def folder(root, checkpoint) -> Path:
    """The output of a job."""
    run_job(root, checkpoint, "parquet")
    return root / "parquet"


def lines(capsys, folder, checkpoint, *more) -> list[list[str]]:
    words = [str(folder), f"--checkpoint={checkpoint}", "--image_size=32", *more]
    search.main(words)
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def refused(folder, checkpoint, *more) -> str:
    with pytest.raises(SystemExit) as error:
        search.main([str(folder), f"--checkpoint={checkpoint}", "--image_size=32", *more])
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_neighbors_are_those_of_numpy(root, folder, checkpoint, capsys):
    rows = job_files.read_parquet(folder)
    names, values = [name for name, _ in rows], np.stack([row for _, row in rows])
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    queries = [f"{root}/photos/{index:02}.jpg" for index in (3, 41)]
    words = [*(f"--query={query}" for query in queries), f"--neighbors={NUM_IMAGES}"]
    found = lines(capsys, folder, checkpoint, *words)
    assert len(found) == 2 * NUM_IMAGES
    for query, chunk in zip(queries, (found[:NUM_IMAGES], found[NUM_IMAGES:]), strict=True):
        cosines = dict(zip(map(printable, names), values @ values[names.index(query)], strict=True))
        assert chunk[0] == [query, "1", "1.0000", query]
        assert [int(line[1]) for line in chunk] == list(range(1, NUM_IMAGES + 1))
        assert sorted(line[3] for line in chunk) == sorted(cosines)
        similarities = [float(line[2]) for line in chunk]
        assert similarities == sorted(similarities, reverse=True)
        assert similarities == pytest.approx([cosines[line[3]] for line in chunk], abs=1e-4)
        assert similarities[-1] < 0.999, "the images differ"


def test_tfrecords_are_read_as_parquet_is(root, folder, checkpoint):
    run_job(root, checkpoint, "tfrecord")
    blocks = []
    for output in (folder, root / "tfrecord"):
        paths = vectors.files_of(str(output))
        parts = list(vectors.blocks(paths))
        ids = np.concatenate([part.ids for part in parts])
        names = vectors.names_of(paths, [int(id) for id in ids])
        assert list(names) == list(ids)
        values = np.concatenate([part.embeddings for part in parts])
        blocks.append((list(names.values()), ids, values))
    assert blocks[0][0] == blocks[1][0] == [name for name, _ in job_files.read_parquet(folder)]
    np.testing.assert_array_equal(blocks[0][1], blocks[1][1])
    np.testing.assert_allclose(blocks[0][2], blocks[1][2], rtol=0, atol=1e-5)


def test_hostile_names_do_not_reach_the_terminal(root, folder, checkpoint, capsys):
    query = f"--query={root}/photos/00.jpg"
    found = lines(capsys, folder, checkpoint, query, "--neighbors=60")
    assert f"{root}/photos/evil\\x1b[31m\\t.jpg" in [line[3] for line in found]


def test_an_index_is_kept_and_read(root, folder, checkpoint, capsys, tmp_path, monkeypatch):
    query = [f"--query={root}/photos/05.jpg", f"--neighbors={NUM_IMAGES}"]
    exact = lines(capsys, folder, checkpoint, *query)
    for factory, probes in (("Flat", 1), ("IVF4,Flat", 4), ("IVF4,Flat", 1)):
        path = tmp_path / f"{factory}{probes}"
        words = [*query, f"--index={path}", f"--factory={factory}", f"--probes={probes}"]
        first = lines(capsys, folder, checkpoint, *words)
        with monkeypatch.context() as patch:
            patch.setattr(vectors, "build_index", None)
            assert lines(capsys, folder, checkpoint, *words) == first
        if factory == "Flat" or probes == 4:
            assert first == exact
        else:
            assert len(first) < len(exact)  # one cell of four
            assert first[0] == exact[0]


def test_errors_have_a_way_out(root, folder, checkpoint, checkpoint_of, tmp_path):
    query = f"--query={root}/photos/05.jpg"
    out = folder
    other = checkpoint_of(32, seed=1)
    assert "is not the one that made" in refused(out, other, query)
    assert "has no embeddings: give the --output" in refused(tmp_path, checkpoint, query)
    (tmp_path / "no.jpg").write_bytes(b"no")
    for path, complaint in ((tmp_path / "no.jpg", "not a picture"), ("none.jpg", "not readable")):
        assert f"({complaint}): give another" in refused(out, checkpoint, f"--query={path}")
    assert "factory 'Nonsense'" in refused(out, checkpoint, query, "--factory=Nonsense")
    (tmp_path / "x.faiss").write_bytes(b"no index")
    message = refused(out, checkpoint, query, f"--index={tmp_path}/x.faiss")
    assert "was not built from these embeddings: remove it" in message
    assert sorted(os.listdir(tmp_path)) == ["no.jpg", "x.faiss"]


def test_without_faiss_the_error_says_what_to_install(root, folder, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    query = f"--query={root}/photos/05.jpg"
    assert 'pip install "tf_simclr[beam]"' in refused(folder, checkpoint, query)


def test_the_command_is_part_of_the_program(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tf-simclr", "search", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert "--neighbors" in capsys.readouterr().out
