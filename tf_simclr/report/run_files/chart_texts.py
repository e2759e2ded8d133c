"""The titles and explanations of charts, for readers who see them for the first time."""

from typing import NamedTuple


class Text(NamedTuple):
    """What a chart says.

    Attributes:
      title: title of the chart.
      y_label: the unit, or what the axis shows.
      explanation: what is measured, and what a good curve looks like.
    """

    title: str
    y_label: str
    explanation: str


TRAINING = {
    "train/contrast_loss": Text(
        "Contrastive loss",
        "nats",
        "How badly the model picks out the other view of an image among all views of the batch "
        "(NT-Xent). A good curve falls, fast at first, and ends well below the line of chance.",
    ),
    "train/contrast_acc": Text(
        "Contrastive accuracy",
        "share of views",
        "How often a view is closer to the other view of its image than to that of any other image "
        "in the batch. A good curve rises. A larger batch is harder: compare runs of one batch "
        "size.",
    ),
    "train/contrast_entropy": Text(
        "Contrastive entropy",
        "nats",
        "How undecided the model is between the views of the batch. A good curve falls at first, "
        "and may rise a little later.",
    ),
    "train/supervised_loss": Text(
        "Supervised loss",
        "nats",
        "Cross-entropy of the supervised head on training images. A good curve ends low; a large "
        "learning rate may let it rise at first. In pretraining the head only measures the "
        "features: it does not train the encoder.",
    ),
    "train/supervised_acc": Text(
        "Supervised accuracy",
        "share of images",
        "How often the supervised head names the class of a training image. A good curve rises. It "
        "says nothing about images outside the training split.",
    ),
    "train/distill_loss": Text(
        "Distillation loss",
        "nats",
        "How far the predictions are from those of the teacher. A good curve falls toward the "
        "entropy of the teacher's predictions.",
    ),
    "train/teacher_agreement": Text(
        "Agreement with the teacher",
        "share of images",
        "How often student and teacher choose the same class. A good curve rises toward 1.",
    ),
    "learning_rate": Text(
        "Learning rate",
        "rate",
        "The step size of the optimizer. It rises from 0 during the warm-up, if there is one, and "
        "then falls to 0 along half a cosine.",
    ),
}
REST = {
    "train/total_loss": Text(
        "Total loss",
        "nats",
        "The sum that the optimizer minimizes: all losses, and in some settings weight decay. The "
        "losses above say more.",
    ),
    "train/weight_decay": Text(
        "Weight decay in the loss",
        "nats",
        "The part of the loss that keeps weights small. It should stay small beside the other "
        "losses.",
    ),
    "train/loss_scale": Text(
        "Loss scale",
        "factor",
        "The factor on the loss that keeps float16 gradients from vanishing. It rises slowly and "
        "halves when a gradient is not finite. It should not fall for long.",
    ),
    "train/skipped_steps": Text(
        "Skipped steps",
        "share of steps",
        "Steps without an update because a float16 gradient was not finite. A few at the start are "
        "usual.",
    ),
    "train/skipped_examples": Text(
        "Undecodable images",
        "images",
        "Images that could not be decoded and were replaced, since the last point. It should be 0.",
    ),
    "train/unlabelled_examples": Text(
        "Images without a label",
        "images",
        "Images that the supervised loss left out, since the last point.",
    ),
}
SPEED = {
    "train/images_per_second": Text(
        "Images per second",
        "images/s",
        "How many images the run trains on in a second, over all replicas. A good curve is level. "
        "Dips mean that something else used the machine, or that data came late.",
    ),
    "train/input_wait": Text(
        "Time waiting for data",
        "share of time",
        "The share of the time in which the device waits for images. It should be near 0. If it "
        "is high, the host is the bottleneck: give it more cores, or use --augment_on=device.",
    ),
}
DIAGNOSTICS = {
    "monitor/knn_top_1": Text(
        "Nearest neighbors, top-1",
        "share of images",
        "How often the nearest neighbors of an image, by the encoder's features, have its class. "
        "It needs labels but no training. A good curve rises well above chance.",
    ),
    "monitor/embedding_std": Text(
        "Spread of projections",
        "1 = even",
        "Standard deviation of the projections: 1 if they are spread evenly over all directions, "
        "0 if all images have the same projection, which is a collapse. Healthy runs stay well "
        "above 0.1 after the warm-up.",
    ),
    "monitor/rankme": Text(
        "Effective rank of features",
        "dimensions",
        "How many dimensions the features use (RankMe). A healthy run uses many, and usually more "
        "with time. Only a few dimensions mean a collapse.",
    ),
    "monitor/rankme_projections": Text(
        "Effective rank of projections",
        "dimensions",
        "How many dimensions the output of the projection head uses (RankMe). It is usually lower "
        "than the rank of the features, because the head discards what augmentation changes.",
    ),
    "monitor/alignment": Text(
        "Alignment",
        "squared distance",
        "Mean squared distance between the projections of two views of an image, from 0 to 4. A "
        "good run lowers it, while uniformity stays low as well.",
    ),
    "monitor/uniformity": Text(
        "Uniformity",
        "log of a mean",
        "How evenly projections cover the sphere: 0 if all are equal, about -4 if they are spread "
        "evenly. A good run stays low. A rise toward 0 is a collapse.",
    ),
    "monitor/positive_similarity": Text(
        "Similarity of positives",
        "cosine",
        "Mean cosine similarity of two views of the same image. A good curve rises toward 1, and "
        "stays far above the similarity of negatives.",
    ),
    "monitor/negative_similarity": Text(
        "Similarity of negatives",
        "cosine",
        "Mean cosine similarity of views of different images. It should stay near 0. If it rises "
        "toward 1, all images look alike to the model: a collapse.",
    ),
}
SPECTRUM = Text(
    "Spectrum of features",
    "singular value / largest",
    "The singular values of the features, the largest first: how much each direction is used. A "
    "good line falls slowly. A line that drops early by orders of magnitude shows unused "
    "dimensions, and a sudden drop shows a collapse.",
)
EVALUATION = {
    "eval/label_top_1_accuracy": Text(
        "Top-1 accuracy",
        "share of images",
        "How often the supervised head names the class of an image of the evaluation split. In "
        "pretraining this is a linear classifier on the encoder's features. A good curve rises.",
    ),
    "eval/label_top_5_accuracy": Text(
        "Top-5 accuracy",
        "share of images",
        "How often the class of an image of the evaluation split is among the five that the "
        "supervised head ranks first. A good curve rises.",
    ),
}
