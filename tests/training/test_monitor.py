"""The hook with embeddings that are made by hand, and what it warns of."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.probes import diagnostics
from tf_simclr.training import collapse, metrics_file, monitor
from tf_simclr.training.embedder import Embeddings
from tf_simclr.training.hooks import Chunk

RNG = np.random.default_rng(0)
NAMES = ("total_loss", "contrast_loss")
HEALTHY_LOSS, BATCH = 3.0, 64


def embeddings(n=40, m=38, labels=None, spread=1.0) -> Embeddings:
    """Of random numbers; with spread=0 all projections are one."""
    z1, z2, projections = (
        (1 + spread * (RNG.normal(size=(k, 8)) - 1)).astype(np.float32) for k in (n, n, m)
    )
    features = (1 + spread * (RNG.normal(size=(m, 16)) - 1)).astype(np.float32)
    labels = RNG.integers(3, size=m) if labels is None else labels
    return Embeddings(z1, z2, projections, features, np.broadcast_to(labels, m))


def chunk(first, last, *, loss=HEALTHY_LOSS, total=1000) -> Chunk:
    losses = np.broadcast_to(np.asarray(loss, np.float32), last - first)
    rows = np.stack([losses + 9, losses], axis=1)
    return Chunk(
        first_step=first,
        last_step=last,
        total_steps=total,
        metrics=rows,
        counts=np.zeros((last - first, 2)),
        views=None,
        waits=0.0,
        seconds=1.0,
        stop_signal=None,
    )


class Records:
    """A writer that keeps records."""

    def __init__(self):
        self.written = []

    def write(self, record):
        self.written.append(record)


def to_record(kind, step, values):
    return metrics_file.Record(kind, step, step / 4, 0.0, values)


@pytest.fixture
def hook(tmp_path):
    """Function: settings -> (hook, its records)."""

    def make(embed=embeddings, every_steps=10, warmup_steps=0, records=None):
        records = records or Records()
        writer = tf.summary.create_file_writer(str(tmp_path))
        return monitor.Monitor(
            embed,
            NAMES,
            monitor.Outputs(writer, records, to_record, lambda values: None),
            every_steps=every_steps,
            warmup_steps=warmup_steps,
            batch_size=BATCH,
        ), records

    return make


def test_figures_are_those_of_the_formulas():
    e = embeddings()
    values, spectrum = monitor.figures(e)
    singular_values = np.linalg.svd(e.features.astype(np.float64))[1]
    assert values == {
        "monitor/alignment": diagnostics.alignment(e.z1, e.z2),
        "monitor/uniformity": pytest.approx(
            (diagnostics.uniformity(e.z1) + diagnostics.uniformity(e.z2)) / 2
        ),
        "monitor/positive_similarity": diagnostics.positive_similarity(e.z1, e.z2),
        "monitor/negative_similarity": diagnostics.negative_similarity(e.z1, e.z2),
        "monitor/embedding_std": diagnostics.embedding_std(np.concatenate([e.z1, e.z2])),
        "monitor/rankme": pytest.approx(diagnostics.rankme(singular_values)),
        "monitor/rankme_projections": pytest.approx(
            diagnostics.rankme(np.linalg.svd(e.projections)[1])
        ),
        "monitor/knn_top_1": diagnostics.knn_top_1(e.features, e.labels),
    }
    assert spectrum == pytest.approx(singular_values / singular_values[0])


def test_neighbors_need_labels_of_two_classes():
    labels = np.where(np.arange(38) < 30, np.arange(38) % 2, -1)
    e = embeddings(labels=labels)
    values, _ = monitor.figures(e)
    expected = diagnostics.knn_top_1(e.features[:30], labels[:30])
    assert values["monitor/knn_top_1"] == expected
    for without in (-1, np.where(labels < 0, -1, 1)):
        values, _ = monitor.figures(embeddings(labels=without))
        assert "monitor/knn_top_1" not in values and "monitor/rankme" in values


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_shown_of_embeddings_that_are_not_finite(value):
    e = embeddings()
    e.features[3, 3] = value
    assert monitor.figures(e) == ({}, [])
    assert monitor.figures(embeddings(n=1)) == ({}, [])


def test_long_spectra_are_thinned_and_keep_both_ends():
    values = np.linspace(8, 1, 2048)
    thinned = monitor.thin(values)
    assert len(thinned) == 256 and thinned[0] == 1 and thinned[-1] == 1 / 8
    ranks = (1 - np.array(thinned)) * 8 / 7 * 2047
    assert set(np.rint(np.diff(ranks))) == {8, 9}
    assert monitor.thin(np.array([4.0, 2.0])) == [1.0, 0.5]
    assert monitor.thin(np.zeros(3)) == []


def test_measures_every_few_steps_and_at_the_end_but_not_at_the_start(hook):
    measured, records = hook()
    assert measured.next_boundary(0) == 10 and measured.next_boundary(10) == 20
    for first, last in [(0, 1), (1, 10), (10, 17), (17, 20), (20, 25)]:
        measured.after(chunk(first, last, total=25))
    assert [record.step for record in records.written] == [10, 20, 25]
    assert [record.epoch for record in records.written] == [2.5, 5, 6.25]
    assert {record.kind for record in records.written} == {metrics_file.MONITOR}
    assert all(record.values["monitor/images"] == 38 for record in records.written)
    assert all(record.values["monitor/seconds"] >= 0 for record in records.written)


def test_writes_the_same_to_tensorboard(hook, tmp_path, events):
    measured, records = hook()
    measured.after(chunk(0, 10))
    measured._outputs.summaries.close()
    (record,) = records.written
    scalars = {tag: values[10] for tag, values in events(tmp_path).items()}
    assert scalars == pytest.approx(record.values)


def test_a_worker_that_is_not_the_chief_embeds_and_writes_nothing(tmp_path):
    calls = []

    def embed():
        calls.append(1)
        return embeddings()

    shared = []
    outputs = monitor.Outputs(tf.summary.create_noop_writer(), None, to_record, shared.append)
    measured = monitor.Monitor(
        embed,
        NAMES,
        outputs,
        every_steps=5,
        warmup_steps=0,
        batch_size=BATCH,
    )
    measured.after(chunk(0, 5))
    assert calls == [1]
    assert shared == [{}], "all workers decide together which checkpoint is the best"


def test_healthy_figures_give_no_warning(hook, capsys):
    measured, records = hook(every_steps=100)
    measured.after(chunk(0, 100))
    assert list(records.written[0].warnings) == []
    assert capsys.readouterr().err == ""


def test_warns_of_a_collapse_once_and_records_it_each_time(hook, capsys):
    measured, records = hook(lambda: embeddings(spread=0.001), every_steps=100)
    measured.after(chunk(0, 100))
    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["Step 100"] * 3
    texts = ("projections have collapsed to a point", "features have", "projections have")
    assert all(text in line for text, line in zip(texts, printed, strict=True))
    assert "is 1.0 of at most 16" in printed[1] and "is 1.0 of at most 8" in printed[2]
    assert all("--temperature" in line for line in printed)
    measured.after(chunk(100, 200))
    assert capsys.readouterr().err == ""
    assert [len(record.warnings) for record in records.written] == [3, 3]
    assert f"Step 100: {records.written[0].warnings[0]}" == printed[0]


def test_does_not_warn_before_100_steps_after_the_warm_up(hook, capsys):
    measured, records = hook(lambda: embeddings(spread=0.001), every_steps=50, warmup_steps=30)
    for last in (50, 100, 150):
        measured.after(chunk(last - 50, last))
    assert [len(record.warnings) for record in records.written] == [0, 0, 3]


def test_the_loss_is_the_mean_since_the_last_measurement_without_the_warm_up(hook):
    """Its chance level for 64 images is 2 log 127 = 9.69."""
    chance = 2 * math.log(127)
    assert collapse.chance_level(BATCH) == pytest.approx(chance)
    measured, records = hook(every_steps=100, warmup_steps=40)
    measured.after(chunk(0, 50, loss=np.where(np.arange(50) < 40, chance, 1.0)))
    measured.after(chunk(50, 100, loss=chance))
    measured.after(chunk(100, 200, loss=chance * 0.995))
    measured.after(chunk(200, 300, loss=chance * 0.98))
    texts = [" ".join(record.warnings) for record in records.written]
    assert texts[0] == texts[2] == ""
    assert "Nothing is learned so far: the contrastive loss is 9.640" in texts[1]
    assert "2 log(2 * 64 - 1), is 9.688" in texts[1]
    measured, records = hook(every_steps=100)
    measured.after(chunk(0, 70, loss=chance))
    measured.after(chunk(70, 100, loss=1.0))
    assert list(records.written[0].warnings) == []


def test_a_measurement_that_cannot_read_its_images_does_not_end_the_run(hook, capsys):
    def embed():
        raise errors.UndecodableError("256 examples in a row cannot be decoded")

    measured, records = hook(embed)
    for last in (10, 20):
        measured.after(chunk(last - 10, last))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Step 10: The embeddings cannot be measured: 256 examples in a row")
    assert not records.written


def test_says_why_there_are_no_figures(hook, capsys):
    measured, records = hook(lambda: embeddings(n=1))
    measured.after(chunk(0, 10))
    assert "Step 10: There are no figures: the embeddings are not" in capsys.readouterr().err
    assert records.written[0].values.keys() == {"monitor/images", "monitor/seconds"}


def test_figures_that_are_missing_give_no_warning():
    assert collapse.warnings({}, contrast_loss=None, num_images=8, max_ranks={}) == {}


def test_a_rank_that_cannot_be_high_is_no_collapse():
    """Of a projection head with two outputs."""
    for rank, largest, has_collapsed in [(1.5, 2, False), (1.5, 8, True), (2.5, 8, False)]:
        texts = collapse.warnings(
            {"monitor/rankme_projections": rank},
            contrast_loss=None,
            num_images=8,
            max_ranks={"monitor/rankme_projections": largest},
        )
        assert bool(texts) == has_collapsed
