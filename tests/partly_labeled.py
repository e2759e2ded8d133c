"""A TFDS data set in which some labels are missing, as in STL-10 and ImageNet's test split."""

import numpy as np
import tensorflow_datasets as tfds

import small

NUM_TRAIN, NUM_TEST, NUM_CLASSES = 48, 20, 6
UNLABELED_TRAIN, UNLABELED_TEST = range(0, NUM_TRAIN, 3), (1, 2, 12, 19)


class PartlyLabeled(tfds.core.GeneratorBasedBuilder):
    """Example i has the label i % 6, or none. The split `none` has no label at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = small.image_features(NUM_CLASSES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(NUM_TRAIN, UNLABELED_TRAIN),
            "test": self._generate_examples(NUM_TEST, UNLABELED_TEST),
            "none": self._generate_examples(NUM_TRAIN, range(NUM_TRAIN)),
        }

    def _generate_examples(self, count, unlabelled):
        for index in range(count):
            rng = np.random.default_rng(index)
            level = 40 * (index % NUM_CLASSES)
            image = (level + rng.integers(0, 30, (30 + index % 7, 34, 3))).astype(np.uint8)
            label = -1 if index in unlabelled else index % NUM_CLASSES
            yield index, {"image": image, "label": label}
