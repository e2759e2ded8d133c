import pytest

from tf_simclr.data import shapes


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory):
    """A folder in which the shapes data set is prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    shapes.prepare(folder)
    return folder
