"""Files that have vanished, or become unreadable, when it is their turn."""

import pytest

from hostile_pictures import noise, saved, write
from tf_simclr.data import errors
from tf_simclr.data.pipeline import batches
from tf_simclr.data.sources import folder

PICTURE = saved(noise(16), format="PNG")


@pytest.fixture
def opened(tmp_path):
    """A folder that was listed; a.png is then removed."""
    write(tmp_path / "train" / "cat", {"a.png": PICTURE, "b.png": PICTURE})
    write(tmp_path / "train" / "dog", {"a.png": PICTURE})
    source = folder.open_folder(str(tmp_path), unlabelled=False, quiet=True)
    (tmp_path / "train" / "cat" / "a.png").unlink()
    return source


def read(source, *, strict: bool):
    dataset = batches.eval_batches(
        source, split="train", image_size=16, batch_size=4, strict=strict
    )
    with errors.in_one_line():
        return [[part.numpy() for part in batch] for batch in dataset]


def test_a_file_that_is_gone_counts_as_one_that_cannot_be_decoded(opened):
    ((_, _, weights, skipped),) = read(opened, strict=False)
    assert skipped.sum() == 1 and weights.sum() == 2


def test_strict_data_names_it(opened):
    with pytest.raises(errors.UndecodableError, match="train/cat/a.png cannot be decoded") as error:
        read(opened, strict=True)
    assert "\n" not in str(error.value)


def test_an_error_of_reading_ends_the_run_in_one_line(opened, tmp_path):
    """A disk or a share that fails, for example, says nothing about the picture."""
    (tmp_path / "train" / "cat" / "a.png").mkdir()
    with pytest.raises(errors.UndecodableError) as error:
        read(opened, strict=False)
    message = str(error.value)
    assert "cat/a.png' cannot be read (Is a directory)" in message and "\n" not in message


def test_bytes_are_read_as_they_are(tmp_path):
    """NumPy would lose zeros at the end of a file if it took the content for text."""
    content = PICTURE + bytes(5)
    write(tmp_path, {"a.png": content})
    source = folder.open_folder(str(tmp_path), unlabelled=True, quiet=True)
    (example,) = source.encoded_examples("train")
    assert example["image"].numpy() == content
