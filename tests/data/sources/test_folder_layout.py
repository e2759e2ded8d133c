"""Splits, classes, slices and example ids of a folder."""

import os
from pathlib import Path

import pytest

from hostile_pictures import noise, saved, write
from tf_simclr.data.sources import file_tree, folder, image_files, label_subset
from tf_simclr.errors import ConfigError

PICTURE = saved(noise(16), format="PNG")


def fill(root: Path, *places: str, count: int = 1) -> Path:
    """Writes `count` pictures into each of the folders."""
    for place in places:
        write(root / place, {f"{number:03}.png": PICTURE for number in range(count)})
    return root


def opened(root, *, unlabelled=False) -> folder.FolderSource:
    return folder.open_folder(str(root), unlabelled=unlabelled)


def ids(source, split="train") -> list[bytes]:
    return [e["id"].numpy() for e in source.encoded_examples(split, with_id=True)]


def labels(source, split) -> list[int]:
    return [int(e["label"]) for e in source.encoded_examples(split)]


def test_a_slice_is_a_sample_of_all_classes(tmp_path):
    source = opened(fill(tmp_path, "train/cat", "train/dog", count=100))
    for split in ("train[:75%]", "train[75%:]", "train[:20]"):
        found = labels(source, split)
        assert 0.25 < sum(found) / len(found) < 0.75
    assert len(set(ids(source, "train[:75%]")) | set(ids(source, "train[75%:]"))) == 200


@pytest.mark.parametrize("unlabelled", [False, True])
def test_order_and_ids_do_not_depend_on_where_the_folder_lies(tmp_path, unlabelled, monkeypatch):
    places = ("train/cat", "train/dog")
    here = opened(fill(tmp_path / "here", *places, count=20), unlabelled=unlabelled)
    there = opened(fill(tmp_path / "over" / "there", *places, count=20), unlabelled=unlabelled)
    monkeypatch.chdir(tmp_path)
    relative = opened("over/../here/", unlabelled=unlabelled)
    assert ids(here) == ids(there) == ids(relative)
    assert sorted(ids(here)) != ids(here)
    assert sorted(ids(here))[0] == b"train/cat/000.png"
    assert here.fingerprint() == there.fingerprint() == relative.fingerprint()


def test_the_order_of_names_is_fixed_for_all_time(tmp_path):
    source = opened(fill(tmp_path, "train/cat", "train/dog", count=3))
    assert [path.decode()[6:] for path in ids(source)] == [
        "dog/002.png",
        "dog/001.png",
        "dog/000.png",
        "cat/001.png",
        "cat/000.png",
        "cat/002.png",
    ]


def test_label_fraction_chooses_the_same_wherever_the_folder_lies(tmp_path):
    def chosen(root):
        source = opened(fill(root, "train/cat", "train/dog", count=20))
        few = label_subset.ClassBalancedSubset(
            source, split="train", fraction=0.25, seed=0, flag="train_split"
        )
        return ids(few)

    assert len(chosen(tmp_path / "a")) == 10
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b")


SYSTEM = (
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "System Volume Information",
    "lost+found",
    ".ipynb_checkpoints",
)


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_skipped_at_any_depth(tmp_path, name, capsys):
    fill(tmp_path, "train/cat", "train/dog", "test/cat")
    fill(tmp_path, f"{name}/cat", f"train/{name}", f"train/cat/{name}", f"train/cat/x/{name}")
    source = opened(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert dict(source.contents()) == {
        "train": 2,
        "train/cat": 1,
        "train/dog": 1,
        "test": 1,
        "test/cat": 1,
    }
    assert opened(tmp_path, unlabelled=True).num_examples("train") == 3
    assert len(list(file_tree.walk(str(tmp_path)))) == 3
    assert "no usable picture" not in capsys.readouterr().err


def test_a_class_without_a_picture_is_named(tmp_path, capsys):
    fill(tmp_path, "train/cat", "train/cow", "test/cow")
    write(tmp_path / "train" / "dog", {"a.jpg": b"no picture"})
    write(tmp_path / "test" / "cat", {"a.jpg": b"no picture"})  # cat has some in train
    os.mkdir(tmp_path / "test" / "dog")
    source = opened(tmp_path)
    assert source.class_names == ("cat", "cow")
    line = capsys.readouterr().err
    assert line.endswith("; no usable picture in test/dog, train/dog\n")
    for number in range(9):
        os.mkdir(tmp_path / "train" / f"a{number}")
    assert str(opened(tmp_path)).endswith(
        "in test/dog, train/a0, train/a1, train/a2, train/a3 and 6 more"
    )


@pytest.mark.parametrize(
    "places, message",
    [
        (
            ["sorted/train/cat", "sorted/train/dog", "sorted/test/cat"],
            "one folder too high: its only split would be 'sorted' with the classes 'test', "
            "'train'",
        ),
        (
            ["sorted/train/cat", "sorted/train/dog"],
            "one folder too high: .* with the class 'train'",
        ),
        (["train/train/cat", "train/val/cat"], "/train is probably meant"),
        (["sorted/train", "sorted/test"], "/sorted is probably meant"),
        (["pets/animals/cat", "pets/animals/dog"], "/pets is probably meant"),
        (
            ["all/cat", "all/dog", "test/cat"],
            "'all' beside other splits.* means all splits together",
        ),
    ],
)
def test_a_layout_that_cannot_be_meant_is_refused(tmp_path, places, message):
    fill(tmp_path, *places)
    with pytest.raises(ConfigError, match=message) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)
    assert opened(tmp_path, unlabelled=True).num_classes is None


def test_vehicles_may_be_trains(tmp_path):
    """A folder called "train" is a class if its pictures lie directly in it."""
    source = opened(fill(tmp_path, "all/train", "all/car", "all/bus"))
    assert source.class_names == ("bus", "car", "train")


def test_splits_and_classes_may_be_links_to_one_folder(tmp_path):
    fill(tmp_path, "pool/a", "pool/b", count=3)
    root = fill(tmp_path / "root", "train/plain")
    (root / "train" / "cat").symlink_to(tmp_path / "pool" / "a")
    (root / "train" / "dog").symlink_to(tmp_path / "pool")
    (root / "test").symlink_to("train")
    source = opened(root)
    assert source.class_names == ("cat", "dog", "plain")
    for split in ("train", "test"):
        assert sorted(labels(source, split)) == [0] * 3 + [1] * 6 + [2]
    # Each real folder once: a picture that comes twice would be its own negative.
    assert opened(root, unlabelled=True).num_examples("train") == 1 + 6
    assert len(list(file_tree.walk(str(root)))) == 1 + 6


def test_loops_end(tmp_path):
    root = fill(tmp_path / "root", "train/cat", "train/dog")
    (root / "loop").symlink_to(".")
    (root / "train" / "itself").symlink_to(".")
    (root / "train" / "cat" / "round").symlink_to("..")
    (root / "train" / "cat" / "and_round").symlink_to("../..")
    (root / "train" / "dog" / "me").symlink_to(".")
    source = opened(root)
    assert dict(source.contents()) == {"train": 2, "train/cat": 1, "train/dog": 1}


def test_folders_that_cannot_be_read_are_counted(tmp_path, monkeypatch):
    fill(tmp_path, "train/cat", "train/dog", "train/cow/deep")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) in ("dog", "deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    fill(tmp_path, "train/other")
    source = opened(tmp_path)
    assert source.left_out == {"not readable": 2}
    assert source.empty_classes == ["train/cow", "train/dog"]
    assert opened(tmp_path, unlabelled=True).left_out == {"not readable": 2}


def changed(root: Path, *, how: str):
    first = root / "train" / "cat" / "000.png"
    if how == "renamed":
        first.rename(root / "train" / "cat" / "900.png")
    elif how == "moved":
        first.rename(root / "train" / "dog" / "000.png")
    elif how == "other content":
        first.write_bytes(PICTURE[:40] + bytes([PICTURE[40] ^ 1]) + PICTURE[41:])
    elif how == "larger":
        first.write_bytes(PICTURE + b"x")
    elif how == "class renamed":
        (root / "train" / "cat").rename(root / "train" / "tom")
    elif how == "removed":
        first.unlink()


@pytest.mark.parametrize(
    "how",
    [
        "renamed",
        "moved",
        "other content",
        "larger",
        "class renamed",
        "removed",
    ],
)
def test_the_fingerprint_sees_changes(tmp_path, how):
    fill(tmp_path, "train/cat", "train/dog", count=2)
    (tmp_path / "train" / "dog" / "000.png").unlink()
    before = opened(tmp_path).fingerprint()
    assert 0 <= before < 2**32 and opened(tmp_path).fingerprint() == before
    changed(tmp_path, how=how)
    assert opened(tmp_path).fingerprint() != before


def test_bytes_that_are_no_text_are_names_like_others(tmp_path):
    fill(tmp_path, "train/cat", "train/dog")
    name = os.path.join(os.fsencode(tmp_path), b"train", b"cat", b"\xff\n.png")
    with open(name, "wb") as file:
        file.write(PICTURE)
    source = opened(tmp_path)
    assert b"train/cat/\xff\n.png" in ids(source)
    assert isinstance(source.fingerprint(), int)
    assert image_files.inspect(name).complaint is None


def test_a_split_that_cannot_be_named_says_so(tmp_path):
    source = opened(fill(tmp_path, "train set/cat", "train-2/dog"))
    assert source.num_examples("train-2") == 1
    with pytest.raises(ConfigError, match="--train_split=train set is a split of folder, but"):
        source.num_examples("train set", flag="train_split")
