"""The listing of a folder in model_dir: what it saves, and where it is not trusted."""

import json
import os
import shutil

import pytest

from hostile_pictures import noise, saved, write
from tf_simclr.data.sources import folder, image_files, kept_listing

PICTURE, OTHER = saved(noise(16), format="PNG"), saved(noise(16), format="JPEG")


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "data" / "train" / "cat", {"a.png": PICTURE, "b.png": PICTURE, "c.txt": b"x"})
    write(tmp_path / "data" / "train" / "dog", {os.fsdecode(b"\xff.png"): PICTURE})
    (tmp_path / "run").mkdir()
    opened(tmp_path).keep_listing()
    return tmp_path


@pytest.fixture
def looked_at(monkeypatch):
    """Records the names of the files that are inspected."""
    names, inspect = [], image_files.inspect

    def counting(path, *args):
        names.append(os.path.basename(path))
        return inspect(path, *args)

    monkeypatch.setattr(image_files, "inspect", counting)
    return names


def opened(root, **settings) -> folder.FolderSource:
    return folder.open_folder(
        str(root / "data"), unlabelled=False, model_dir=str(root / "run"), **settings
    )


def test_a_known_file_is_not_looked_at_again(root, looked_at):
    first = opened(root)
    assert looked_at == [] and first.left_out == {"not a picture": 1}
    plain = folder.open_folder(str(root / "data"), unlabelled=False)
    assert first.fingerprint() == plain.fingerprint() and len(looked_at) == 4
    assert first.contents() == plain.contents()
    shutil.copytree(root / "data", root / "moved" / "data")  # with the times
    (root / "run").rename(root / "moved" / "run")
    looked_at.clear()
    assert opened(root / "moved").contents() == plain.contents() and looked_at == []


def test_a_changed_file_is_looked_at_again(root, looked_at):
    folder_of_cats = root / "data" / "train" / "cat"
    (folder_of_cats / "b.png").write_bytes(OTHER)
    os.utime(folder_of_cats / "a.png", ns=(1, 2))
    (folder_of_cats / "new.png").write_bytes(PICTURE)
    (folder_of_cats / "c.txt").unlink()
    source = opened(root)
    assert sorted(looked_at) == ["a.png", "b.png", "new.png"]
    assert source.left_out == {} and source.num_examples("train") == 4
    assert source.keep_listing() is None
    looked_at.clear()
    assert opened(root).fingerprint() == source.fingerprint() and looked_at == []
    assert os.listdir(root / "run") == [kept_listing.NAME]


def test_a_worker_does_not_take_the_chief_s_word_for_its_own_copy(root, looked_at):
    opened(root, quiet=True)
    assert looked_at == []  # the same files
    shutil.copytree(root / "data", root / "copy" / "data")
    (root / "run").rename(root / "copy" / "run")
    opened(root / "copy", quiet=True)
    assert len(looked_at) == 4


def rows(root) -> list:
    return [json.loads(line) for line in open(root / "run" / kept_listing.NAME)]


def change(place: int, value):
    """Returns a function that changes a value in the last row."""

    def do(lines):
        lines[-1][place] = value

    return do


def other_version(lines):
    lines[0]["version"] = 0


def other_limit(lines):
    lines[0]["max_megapixels"] = 1


@pytest.mark.parametrize(
    "damage",
    [
        other_version,
        other_limit,
        lambda lines: lines.pop(0),
        lambda lines: lines.append(7),
        lambda lines: lines[-1].append(1),
        change(0, None),
        change(1, 1.5),
        change(1, True),
        change(2, -1),
        change(3, "x\n"),
        change(3, ["JPEG XL"]),
        change(4, 0),
        change(5, 10**30),
        change(6, "1"),
    ],
)
def test_what_is_not_sound_is_ignored_and_written_anew(root, looked_at, damage):
    before = sorted(map(str, rows(root)))
    lines = rows(root)
    damage(lines)
    text = "\n".join(map(json.dumps, lines))
    (root / "run" / kept_listing.NAME).write_text(text)
    source = opened(root)
    assert len(looked_at) == 4 and source.num_examples("train") == 3
    source.keep_listing()
    assert sorted(map(str, rows(root))) == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"{}\n{", bytes(99)])
def test_what_is_no_listing_is_ignored(root, looked_at, content):
    (root / "run" / kept_listing.NAME).write_bytes(content)
    assert opened(root).num_examples("train") == 3 and len(looked_at) == 4


def test_a_listing_adds_no_file(root, tmp_path):
    """Paths come from the folder alone."""
    lines = rows(root)
    picture = next(line for line in lines[1:] if line[3] is None)
    lines += [[path, *picture[1:]] for path in ("../run/x.png", "/etc/passwd", "train/cat/gone")]
    (root / "run" / kept_listing.NAME).write_text("\n".join(map(json.dumps, lines)))
    source = opened(root)
    assert source.num_examples("train") == 3
    source.keep_listing()
    assert len(rows(root)) == 5


def test_other_limits_are_asked_anew(root):
    large = root / "data" / "train" / "cat" / "large.png"
    large.write_bytes(saved(noise(1100), format="PNG"))
    opened(root).keep_listing()
    found = opened(root, max_megapixels=1)
    assert found.left_out == {"not a picture": 1, "larger than 1 megapixels": 1}
    assert opened(root).left_out == {"not a picture": 1}


def test_a_listing_that_cannot_be_written_is_said_in_one_line(root):
    source = opened(root)
    shutil.rmtree(root / "run")
    (root / "run").write_text("a file")
    (root / "data" / "train" / "cat" / "a.png").write_bytes(OTHER)
    source = opened(root)
    problem = source.keep_listing()
    assert "pictures.jsonl cannot be written" in problem and "\n" not in problem
