"""The map of embeddings: apart what is apart, within the square, and whole for odd features."""

import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tf_simclr.errors import ConfigError
from tf_simclr.report import picture_file
from tf_simclr.report.images import embedding_map, map_figure


def blobs(count=40, groups=3, width=20):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(groups, width))
    labels = np.repeat(np.arange(groups), count)
    return centers[labels] + 0.05 * rng.normal(size=(len(labels), width)), labels


@pytest.mark.parametrize("method", ["auto", "pca"])
def test_separable_groups_are_apart_on_the_map(method):
    features, labels = blobs()
    coordinates, name = embedding_map.layout(features, method=method)
    assert coordinates.dtype == np.float32 and coordinates.shape == (120, 2)
    assert ("t-SNE of 20" in name) == (method == "auto")
    # Each point's nearest point is of its group.
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)
    spans = coordinates.max(axis=0) - coordinates.min(axis=0)
    assert spans.max() == pytest.approx(1, abs=1e-6)
    assert coordinates.min() >= 0 and coordinates.max() <= 1
    again, _ = embedding_map.layout(features, method=method)
    np.testing.assert_array_equal(again, coordinates)


def test_both_axes_have_the_same_scale():
    features = np.array([[1, 0, 0], [1, 0.02, 0], [1, 0, 0.01], [1, 0.02, 0.01]])
    coordinates, name = embedding_map.layout(features)  # too few for t-SNE
    assert name == "two principal components"
    np.testing.assert_allclose(np.ptp(coordinates, axis=0), [1, 0.5], atol=1e-3)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0.5, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 12])
def test_few_images_and_collapsed_ones_have_finite_places(count):
    rng = np.random.default_rng(count)
    same = np.repeat(rng.normal(size=(1, 8)), count, axis=0)
    for features in (
        rng.normal(size=(count, 8)),
        rng.normal(size=(count, 1)),
        same,
        np.zeros((count, 8)),
        same * np.arange(1, count + 1)[:, None],  # one direction
        np.where(np.arange(count)[:, None] == 0, -same, same),  # all but one are the same
        (same + 1e-9 * rng.normal(size=same.shape)).astype(np.float32),
    ):
        coordinates, _ = embedding_map.layout(features)
        assert coordinates.shape == (count, 2) and np.isfinite(coordinates).all()
        groups, names = embedding_map.clusters(features)
        assert groups.min() >= 0 and groups.max() < len(names)
    assert embedding_map.is_constant(same)
    np.testing.assert_array_equal(embedding_map.layout(same)[0], np.full((count, 2), 0.5))


def test_clusters_are_those_of_k_means_the_largest_first():
    features, labels = blobs(groups=4)
    features, labels = features[20:], labels[20:]
    groups, names = embedding_map.clusters(features)
    sizes = np.bincount(groups)
    assert len(names) == 8 == len(sizes)  # sqrt(140 / 2)
    assert list(sizes) == sorted(sizes, reverse=True)
    expected = KMeans(8, n_init=4, random_state=0).fit_predict(
        embedding_map.principal_components(features)
    )
    assert len(set(zip(groups, expected, strict=True))) == 8
    # No cluster has images of two groups.
    assert len(set(zip(groups, labels, strict=True))) == 8


def test_umap_is_used_only_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match="pip install umap-learn"):
        embedding_map.check_method("umap")
    embedding_map.check_method("auto")
    with pytest.raises(ConfigError, match="method must be one of auto, tsne, umap, pca"):
        embedding_map.check_method("mds")


@pytest.mark.parametrize("count", [1, 3, 10, 60])
def test_the_picture_is_written_for_any_number_of_groups(count, tmp_path):
    rng = np.random.default_rng(0)
    coordinates = rng.random((200, 2))
    groups = rng.integers(-1, count, 200)
    names = [f"<script>$x^{i}$</script>\n{'y' * 60}" for i in range(count)]
    for images in (None, rng.integers(0, 256, (200, 8, 8, 3), np.uint8)):
        picture = map_figure.figure(coordinates, groups, names, images=images, title="$a_b")
        path = tmp_path / "map.svg"
        picture_file.write(picture, str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["map.svg"]
    picture = map_figure.figure(coordinates, groups, names)
    legend = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert len(legend) == min(count, 40) + 1
    assert legend[-1] == "without a label" and all(len(text) < 35 for text in legend)
    styles, others = map_figure._styles(groups, count)
    assert len(set(styles.values())) == len(styles) == count - others
    first, second = [], []
    for target in (first, second):
        picture_file.write(map_figure.figure(coordinates, groups, names), str(path))
        target.append(path.read_bytes())
    assert first == second and b"<script>" not in first[0]
