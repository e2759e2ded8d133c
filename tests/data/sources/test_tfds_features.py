"""A TFDS data set from somebody else cannot name code to be run."""

import json
import shutil

import pytest

from tf_simclr.data.sources import shapes, tfds_source
from tf_simclr.errors import ConfigError


@pytest.fixture
def edit(shapes_dir, tmp_path):
    """Returns a function: (file, change of its content) -> data_dir of the changed data set."""

    def make(name, change):
        version = str(shapes.Shapes.VERSION)
        folder = shutil.copytree(shapes_dir / "shapes" / version, tmp_path / "mine" / version)
        for file in folder.glob("shapes-*"):
            file.rename(folder / file.name.replace("shapes", "mine"))
        info = folder / "dataset_info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"name": "mine"}))
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))
        return str(tmp_path)

    return make


def test_the_data_set_opens_as_it_is(edit):
    source = tfds_source.open_source("mine", edit("features.json", lambda content: None))
    assert source.num_classes == 10


@pytest.mark.parametrize("where", ["the whole", "a feature", "legacy"])
def test_a_feature_of_another_package_is_refused(edit, evil, where):
    def change(content):
        if where == "the whole":
            content["pythonClassName"] = "evil_module.Feature"
        elif where == "a feature":
            features = content["featuresDict"]["features"]
            features["image"]["pythonClassName"] = "evil_module.Feature"
        else:
            content.clear()
            content.update(type="evil_module.Feature", content={})

    with pytest.raises(ConfigError) as error:
        tfds_source.open_source("mine", edit("features.json", change))
    assert not evil.exists()
    assert str(error.value).startswith("--dataset=mine has a feature of the class 'evil_module.F")
    assert "\n" not in str(error.value)


def test_the_module_of_the_builder_is_not_imported(edit, evil):
    data_dir = edit("dataset_info.json", lambda content: content.update(moduleName="evil_module"))
    source = tfds_source.open_source("mine", data_dir)
    assert source.num_classes == 10 and source.num_examples("test") == 2000
    next(iter(source.encoded_examples("test", shuffle_files=True, seed=1)))
    assert not evil.exists()
