"""Labels under the class numbers of a trained head."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data.sources import relabel


class FakeSource:
    """Four examples, the last one without a label."""

    name, image_shape = "fake", (None, None, 3)
    class_names, num_classes = ("dog", "cat", "owl"), 3
    label_note = ""

    def __init__(self):
        self.asked = None

    def encoded_examples(self, split, **how):
        self.asked = (split, how)
        labels = tf.constant([0, 1, 2, -1], tf.int64)
        return tf.data.Dataset.from_tensor_slices({"image": list("dco?"), "label": labels})


@pytest.mark.parametrize(
    "names, head, expected",
    [
        (("a", "b"), ("a", "b"), [0, 1]),
        (("b", "a"), ("a", "b"), [1, 0]),
        (("b", "c"), ("a", "b", "c"), [1, 2]),
        (("c", "a"), ("a", "b", "c"), [2, 0]),
        (("1", "0"), ("0", "1"), [1, 0]),
    ],
)
def test_classes_are_found_by_name(names, head, expected):
    assert relabel.class_numbers(names, head) == expected


def test_unknown_classes_are_named():
    with pytest.raises(relabel.UnknownClasses) as error:
        relabel.class_numbers(("new", "a", "A"), ("a", "b"))
    assert error.value.names == ("new", "A")


def test_labels_are_mapped_and_nothing_else_is():
    source = FakeSource()
    relabeled = relabel.RelabeledSource(source, ("ant", "cat", "dog", "owl"))
    assert relabeled.class_names == ("ant", "cat", "dog", "owl") and relabeled.num_classes == 4
    dataset = relabeled.encoded_examples("train", shuffle_files=True, seed=5, with_id=True)
    assert source.asked == ("train", {"shuffle_files": True, "seed": 5, "with_id": True})
    assert dataset.element_spec == source.encoded_examples("train").element_spec
    examples = list(dataset.as_numpy_iterator())
    assert [e["label"] for e in examples] == [2, 1, 3, -1]
    assert [e["image"] for e in examples] == [b"d", b"c", b"o", b"?"]


def test_a_source_with_an_unknown_class_is_refused():
    with pytest.raises(relabel.UnknownClasses):
        relabel.RelabeledSource(FakeSource(), ("dog", "cat"))


def test_it_reads_like_the_source_itself(shapes_dir):
    from tf_simclr.data.sources import tfds_source

    source = tfds_source.open_source("shapes", str(shapes_dir))
    head = ("none", *reversed(source.class_names))
    relabeled = relabel.RelabeledSource(source, head)
    split = relabeled.part_of_split("train[:30]", 3, 1, flag="train_split")
    assert relabeled.num_examples(split) == 10
    assert relabeled.image_shape == source.image_shape
    pairs = zip(relabeled.encoded_examples(split), source.encoded_examples(split), strict=True)
    for found, original in pairs:
        assert head[int(found["label"])] == source.class_names[int(original["label"])]
        np.testing.assert_array_equal(
            relabeled.decode(found["image"]), source.decode(original["image"])
        )
