"""TensorBoard's projector reads what is written for it."""

import os

import numpy as np
import pytest
from PIL import Image

from tf_simclr.errors import ConfigError
from tf_simclr.report.images import projector

NAMES = ["a\tb", "line\nbreak\u2028", "<script>", "", "back\\slash"]


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(5, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (5, 1, 1, 3), np.uint8)
    images = np.broadcast_to(colors, (5, 16, 16, 3))
    directory = str(tmp_path / "projector")
    for _ in range(2):  # the second call replaces the first
        projector.check(directory)
        projector.write(directory, embeddings, {"name": NAMES, "class": list("xyzxy")}, images)
    return directory, embeddings, colors


def test_the_plugin_reads_the_files(written):
    plugin = pytest.importorskip("tensorboard.plugins.projector.projector_plugin")
    directory, embeddings, colors = written
    assert sorted(os.listdir(directory)) == sorted(projector._FILES)
    context = plugin.base_plugin.TBContext(logdir=directory)
    loaded = plugin.ProjectorPlugin(context)
    loaded._update_configs()
    [entry] = loaded._configs["."].embeddings
    assert entry.tensor_name == "features" and list(entry.tensor_shape) == [5, 3]

    def path(name):
        return plugin._rel_to_abs_asset_path(name, loaded.config_fpaths["."])

    tensor = plugin._read_tensor_tsv_file(path(entry.tensor_path))
    np.testing.assert_allclose(tensor, embeddings, rtol=1e-5)
    with open(path(entry.metadata_path), encoding="utf-8") as file:
        rows = [line.split("\t") for line in file.read().splitlines()]
    assert rows[0] == ["name", "class"] and all(len(row) == 2 for row in rows) and len(rows) == 6
    assert [row[0] for row in rows[1:]] == [
        "a\\tb",
        "line\\nbreak\\u2028",
        "<script>",
        " ",
        "back\\\\slash",
    ]
    side = entry.sprite.single_image_dim[0]
    assert side == 16
    sprite = np.asarray(Image.open(path(entry.sprite.image_path)))
    for i in range(5):
        row, column = divmod(i, sprite.shape[1] // side)
        np.testing.assert_array_equal(sprite[side * row + 8, side * column + 8], colors[i, 0, 0])


def test_the_sprite_is_within_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MAX_SPRITE_SIDE", 30)
    images = np.zeros((5, 16, 16, 3), np.uint8)
    columns = {"name": NAMES, "class": NAMES}
    projector.write(str(tmp_path / "p"), np.zeros((5, 2), np.float32), columns, images)
    assert Image.open(tmp_path / "p" / "sprite.png").size == (30, 20)


def test_other_files_are_not_replaced(written):
    directory = written[0]
    with open(os.path.join(directory, "mine.txt"), "w"):
        pass
    with pytest.raises(ConfigError, match="not an empty directory"):
        projector.check(directory)
    with pytest.raises(ConfigError, match="not a writable folder"):
        projector.check(os.path.join(directory, "none", "projector"))
