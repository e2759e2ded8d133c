"""What a report says, without how it looks. `page` turns it into HTML.

Every text may come from data (class names, file names, settings) and is untrusted: the page escapes
it.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      name: name of the run, or of what the line measures; "" for a chart with a single line.
      x: (n,), increasing.
      y: (n,).
    """

    name: str
    x: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of lines.

    Attributes:
      id: unique in the report, lower-case letters and hyphens.
      title: e.g. "Contrastive loss".
      explanation: one or two sentences: what is measured, and what a good curve looks like.
      x_label: e.g. "step".
      y_label: with the unit, e.g. "nats".
      lines: the lines; several runs have one each, in the same order in all charts.
      reference: (text, y) of a horizontal line, such as the loss at chance; None for none.
      log_x: whether the horizontal axis is logarithmic.
      log_y: whether the vertical axis is logarithmic.
    """

    id: str
    title: str
    explanation: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    reference: tuple[str, float] | None = None
    log_x: bool = False
    log_y: bool = False


@dataclasses.dataclass(frozen=True)
class Fact:
    """A named value, e.g. ("Linear probe, top-1", "93.2%", "raw pixels 10.5%")."""

    name: str
    value: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An answer in one sentence.

    Attributes:
      level: "good", "warning" or "bad".
      text: e.g. "Not collapsed: ...".
    """

    level: str
    text: str


@dataclasses.dataclass(frozen=True)
class Overview:
    """One run at a glance.

    Attributes:
      name: short name of the run, unique in the report.
      model_dir: its directory.
      state: e.g. "finished", "step 400 of 800", "stopped early".
      verdicts: is it learning, has it collapsed.
      facts: its best figures.
      is_pretraining: whether it learns without labels, so that it may collapse.
    """

    name: str
    model_dir: str
    state: str
    verdicts: tuple[Verdict, ...]
    facts: tuple[Fact, ...]
    is_pretraining: bool = True


@dataclasses.dataclass(frozen=True)
class SettingRow:
    """One setting of all runs.

    Attributes:
      section: name of its section.
      name: name of the setting.
      values: its value in each run, as text; "" if the run's version has no such setting.
      default: its default, as text.
      differs: whether the runs have different values.
    """

    section: str
    name: str
    values: tuple[str, ...]
    default: str
    differs: bool


@dataclasses.dataclass(frozen=True)
class Sprite:
    """Thumbnails in one picture, row by row.

    Attributes:
      image: the encoded picture.
      media_type: e.g. "image/webp".
      side: side of a thumbnail in pixels.
      columns: thumbnails in a row.
      count: number of thumbnails.
    """

    image: bytes
    media_type: str
    side: int
    columns: int
    count: int


@dataclasses.dataclass(frozen=True)
class EmbeddingMap:
    """A two-dimensional map of embeddings.

    Attributes:
      method: e.g. "t-SNE of 50 principal components".
      coordinates: float32 (n, 2), in [0, 1].
      groups: int (n,), indices into group_names; -1 for an image without a label.
      group_names: names of the classes or clusters.
      grouped_by: "class" or "cluster".
      names: n names of images: file names, or "test 17".
      thumbnails: n thumbnails.
    """

    method: str
    coordinates: np.ndarray
    groups: np.ndarray
    group_names: tuple[str, ...]
    grouped_by: str
    names: tuple[str, ...]
    thumbnails: Sprite


@dataclasses.dataclass(frozen=True)
class Neighbors:
    """Nearest neighbors of some images, by several encoders.

    Attributes:
      encoders: titles of the encoders, e.g. "raw pixels", "before training", "after training".
      num_neighbors: k.
      precision: share in [0, 1] of the k neighbors that have the query's class, over all images of
        the test part, one for each encoder; () without labels.
      searched: what was searched, e.g. "10,000 training images".
      queries: int (q,), indices into thumbnails and names.
      nearest: int (encoders, q, k), indices into thumbnails and names.
      hits: bool (encoders, q, k), whether a neighbor has the query's class; None without labels.
      names: names of the images among the thumbnails; with labels "NAME (CLASS)".
      thumbnails: the queries and their neighbors.
    """

    encoders: tuple[str, ...]
    num_neighbors: int
    precision: tuple[float, ...]
    searched: str
    queries: np.ndarray
    nearest: np.ndarray
    hits: np.ndarray | None
    names: tuple[str, ...]
    thumbnails: Sprite


@dataclasses.dataclass(frozen=True)
class Confusion:
    """The confusions of a classifier.

    Attributes:
      classifier: e.g. "supervised head", "20 nearest neighbors".
      class_names: names of the classes.
      counts: int (classes, classes): row is the true class, column the predicted class.
    """

    classifier: str
    class_names: tuple[str, ...]
    counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Images:
    """What the encoder of a run has learned, shown on images.

    Attributes:
      checkpoint: the checkpoint of the encoder.
      data: e.g. "shapes, split test: 2,000 images".
      map: the map; None if it was left out.
      neighbors: the neighbors; None if they were left out.
      confusion: the confusions; None without labels.
    """

    checkpoint: str
    data: str
    map: EmbeddingMap | None
    neighbors: Neighbors | None
    confusion: Confusion | None


@dataclasses.dataclass(frozen=True)
class Report:
    """The content of a report.

    Attributes:
      title: e.g. "runs/demo".
      created: date and time, as text.
      overviews: one for each run.
      charts: {heading: charts}, in the order of the page: "Training", "Diagnostics", ...
      images: of a single run; None for several runs, or if no checkpoint can be read.
      settings: all settings, those that differ first.
      versions: names and versions of the packages, and the device.
      notes: what is missing from the report, and why.
    """

    title: str
    created: str
    overviews: tuple[Overview, ...]
    charts: dict[str, tuple[Chart, ...]]
    images: Images | None
    settings: tuple[SettingRow, ...]
    versions: tuple[Fact, ...]
    notes: tuple[str, ...] = ()
