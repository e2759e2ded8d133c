"""The picture of nearest neighbors."""

import numpy as np

from tf_simclr.probes import neighbors


def test_nearest_goes_by_angle_and_not_by_length():
    train = np.array([[1.0, 0.0], [0.0, 5.0], [3.0, 3.1]])
    test = np.array([[10.0, 0.1], [0.1, 0.12]])
    np.testing.assert_array_equal(neighbors.nearest(train, test, count=2), [[0, 2], [2, 1]])


def test_the_share_of_hits_counts_every_neighbor_of_every_test_image():
    indices = np.array([[0, 1], [2, 0], [1, 2]])
    share = neighbors.share_of_hits(indices, np.array([4, 4, 7]), np.array([4, 7, 5]))
    assert share == 3 / 6


def test_figure_shows_each_class_once_and_frames_hits_green():
    train_images, test_images = np.zeros((4, 8, 8, 3)), np.ones((3, 8, 8, 3))
    train_labels, test_labels = np.array([0, 0, 1, 1]), np.array([1, 0, 1])
    indices = np.array([[2, 0], [0, 1], [1, 0]])
    picture = neighbors.figure(
        train_images, train_labels, test_images, test_labels, {"pixels": indices}
    )
    axes = np.array(picture.axes).reshape(2, 4)  # image, gap, two neighbors
    assert [a.get_title() for a in axes[0] if a.get_title()][0] == "image"
    # Of all six neighbors, three are of their test image's class.
    assert any("nearest of 4 by pixels: 50% of the same class" in a.get_title() for a in axes[0])
    frames = [[a.spines["left"].get_edgecolor() for a in row[2:]] for row in axes]
    green, red = (
        [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        for color in (neighbors.RIGHT, neighbors.WRONG)
    )
    # Rows are classes 0 and 1: test image 1 has two hits; test image 0 a hit and a miss.
    expected = [[green, green], [green, red]]
    np.testing.assert_allclose(np.array(frames)[..., :3], expected)
