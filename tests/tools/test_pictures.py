"""The contact sheet: a picture per place, of the right class, at full crispness."""

import matplotlib.image
import numpy as np
import pytest

import pictures
from tf_simclr.data.sources import shapes


def _examples(count):
    for index in range(count):
        image, label = shapes.example("test", index)
        yield {"image": image, "label": label}


def test_pick_takes_as_many_of_each_class_and_reads_no_further():
    stream = _examples(100)
    images, labels = pictures.pick(stream, rows=3, columns=2)
    np.testing.assert_array_equal(np.sort(labels), [0, 0, 1, 1, 2, 2])
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in images)
    assert next(stream)["label"] == 3  # 13 were read: two each of the classes 0, 1 and 2


def test_contact_sheet_has_one_row_a_class_and_leaves_missing_places_empty():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    labels = np.array([1, 0, 1, 0, 1])
    figure = pictures.contact_sheet(images, labels, ["cat", "dog"], rows=2, columns=3)
    assert [text.get_text() for text in figure.texts] == ["cat", "dog"]
    shown = [int(axes.images[0].get_array().max()) for axes in figure.axes]
    assert shown == [1, 3, 0, 2, 4]
    lefts = [round(axes.get_position().x0, 6) for axes in figure.axes]
    assert lefts[:2] == lefts[2:4] and lefts == sorted(lefts[:2]) + sorted(lefts[2:])
    assert figure.axes[0].get_position().y0 > figure.axes[2].get_position().y1


def test_contact_sheet_takes_grey_pictures_of_unequal_size():
    images = [np.full((4, 4, 1), 100, np.uint8), np.full((6, 3, 3), 50, np.uint8)]
    figure = pictures.contact_sheet(images, [0, 0], ["a"], rows=1, columns=2)
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(4, 4), (6, 3, 3)]
    assert figure.axes[0].images[0].get_clim() == (0, 255)


@pytest.mark.parametrize("rows, columns, message", [(3, 1, "rows must be"), (1, 0, "columns must")])
def test_contact_sheet_refuses_a_grid_it_cannot_fill(rows, columns, message):
    with pytest.raises(ValueError, match=message):
        pictures.contact_sheet(np.zeros((1, 4, 4, 3)), [0], ["a", "b"], rows, columns)


def test_command_line_writes_a_png(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "NUM_TRAIN", 80)
    monkeypatch.setattr(shapes, "NUM_TEST", 10)
    output = tmp_path / "sheet.png"
    pictures.main(
        [
            "contact_sheet",
            "--dataset=shapes",
            f"--data_dir={tmp_path}",
            f"--output={output}",
            "--rows=10",
            "--columns=8",
        ]
    )
    sheet = matplotlib.image.imread(output)
    # 200 pixels an inch; every picture is at least 0.64 inch high and wide.
    assert sheet.shape[0] > 10 * 128 and sheet.shape[1] > 8 * 128
    assert sheet.shape[0] < 10 * 128 * 1.2 and sheet.shape[1] < 8 * 128 * 1.2 + 300
    pixels = (sheet[..., :3] * 255).round().astype(np.uint8).reshape(-1, 3)
    assert (pixels == 255).all(axis=1).mean() < 0.4, "the sheet is mostly blank"
