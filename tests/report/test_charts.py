"""Charts: only of what was measured, with explanations, thinned without losing extremes."""

import math
import re

import numpy as np
import pytest

import made_runs
from tf_simclr.report.content import Chart
from tf_simclr.report.run_files import chart_texts, charts, run_folder
from tf_simclr.training.metrics_file import EVAL, MONITOR, TRAIN


def make(*folders) -> dict[str, Chart]:
    """{title: chart}."""
    runs = [run_folder.read(str(folder)) for folder in folders]
    found = charts.make(runs, [folder.name for folder in folders])
    everything = [chart for group in found.values() for chart in group]
    ids = [chart.id for chart in everything]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("[a-z]+(-[a-z]+)*", i) for i in ids)
    assert all(len(chart.explanation) > 40 for chart in everything)
    return {chart.title: chart for chart in everything}


def test_a_single_run(tmp_path):
    found = make(made_runs.finished(tmp_path / "run"))
    assert list(found) == [
        "Contrastive loss",
        "Learning rate",
        "Nearest neighbors, top-1",
        "Spread of projections",
        "Effective rank of features",
        "Spectrum of features",
        "Top-1 accuracy",
    ]
    loss = found["Contrastive loss"]
    (line,) = loss.lines
    assert line.name == "" and line.x.tolist() == list(range(100, 801, 100))
    assert line.y[0] == 9.4 and line.y[-1] == pytest.approx(4.1)
    text, level = loss.reference
    assert level == pytest.approx(2 * math.log(2 * 64 - 1)) and "2 log(2 · 64 - 1)" in text


def test_several_runs_have_one_line_each_in_the_same_order(tmp_path):
    made_runs.finished(tmp_path / "a")
    made_runs.settings(tmp_path / "b", train_batch_size=32)
    made_runs.write(tmp_path / "b", made_runs.record(TRAIN, 5, {"train/supervised_acc": 0.5}))
    found = make(tmp_path / "a", tmp_path / "b")
    for chart in found.values():
        assert [line.name for line in chart.lines] == ["a", "b"]
    assert len(found["Contrastive loss"].lines[1].x) == 0
    assert len(found["Spectrum of features"].lines[1].x) == 0
    assert found["Supervised accuracy"].lines[1].x.tolist() == [5]
    assert found["Contrastive loss"].reference is None
    assert "8.29 for 32 images, 9.69 for 64 images" in found["Contrastive loss"].explanation


def test_a_run_without_data_has_no_charts(tmp_path):
    made_runs.settings(tmp_path)
    assert make(tmp_path) == {}


def test_the_rest_comes_last_and_hostile_tags_get_safe_ids(tmp_path):
    made_runs.settings(tmp_path)
    values = {"train/total_loss": 1.0, "train/<script>": 2.0, "train/": 3.0, "evil": 4.0}
    made_runs.write(tmp_path, made_runs.record(TRAIN, 5, values))
    made_runs.write(tmp_path, made_runs.record(MONITOR, 5, {"monitor/new": 1.0}))
    assert list(make(tmp_path)) == ["New", "Total loss", "", "<script>"]


def test_tags_whose_ids_agree_get_different_ids(tmp_path):
    made_runs.settings(tmp_path)
    values = {"monitor/a_b": 1.0, "monitor/a-b": 2.0, "monitor/a b": 2.0, "monitor/é": 1.0}
    made_runs.write(tmp_path, made_runs.record(MONITOR, 5, values))
    assert len(make(tmp_path)) == 3  # two have the same title, and all have ids of their own


def test_any_number_of_tags_is_bounded(tmp_path):
    made_runs.settings(tmp_path)
    values = {f"train/x{i}": 1.0 for i in range(500)}
    made_runs.write(tmp_path, made_runs.record(TRAIN, 5, values))
    assert len(make(tmp_path)) == charts.MAX_CHARTS


def test_evaluations_with_a_name_have_their_own_charts(tmp_path):
    made_runs.finished(tmp_path / "run")
    for name, value in (("eval_a", 0.3), ("eval_b", 0.4)):
        record = made_runs.record(EVAL, 10, {made_runs.TOP_1: value})
        made_runs.write(tmp_path / "run" / name, record)
    found = make(tmp_path / "run")
    assert [found[f"Top-1 accuracy, {n}"].lines[0].y.tolist() for n in "ab"] == [[0.3], [0.4]]


def test_spectra_of_the_first_middle_and_last_measurement(tmp_path):
    made_runs.settings(tmp_path)
    for step in range(10, 60, 10):
        record = made_runs.record(MONITOR, step, {}, spectrum=[1.0, step / 100, 0.0])
        made_runs.write(tmp_path, record)
    chart = make(tmp_path)["Spectrum of features"]
    assert chart.log_x and chart.log_y
    assert [(line.name, line.x.tolist(), line.y.tolist()) for line in chart.lines] == [
        ("step 10", [1, 2], [1, 0.1]),
        ("step 30", [1, 2], [1, 0.3]),
        ("step 50", [1, 2], [1, 0.5]),
    ]


def test_a_thinned_spectrum_has_the_ranks_of_its_values(tmp_path):
    made_runs.settings(tmp_path, resnet_depth=50, width_multiplier=1.0)
    values = np.exp(-np.arange(1024) / 100)
    kept = np.rint(np.linspace(0, 1023, 256)).astype(int)  # as the run thins it
    record = made_runs.record(
        MONITOR, 10, {"monitor/images": 1024.0}, spectrum=values[kept].tolist()
    )
    made_runs.write(tmp_path, record)
    (line,) = make(tmp_path)["Spectrum of features"].lines
    assert line.x.tolist() == (kept + 1).tolist() and line.x[-1] == 1024
    np.testing.assert_allclose(line.y, np.exp(-(line.x - 1) / 100))


def test_a_spectrum_whose_ranks_are_unknown_is_left_out(tmp_path):
    made_runs.settings(tmp_path)
    made_runs.write(tmp_path, made_runs.record(MONITOR, 10, {}, spectrum=[1.0] * 256))
    assert make(tmp_path) == {}


def test_thinning_keeps_extremes_and_ends():
    rng = np.random.default_rng(0)
    x, y = np.arange(100_000.0), rng.normal(size=100_000)
    y[12_345], y[54_321] = 50, -50
    thin_x, thin_y = charts.thin(x, y)
    assert len(thin_x) <= 602 and (np.diff(thin_x) > 0).all()
    assert {0, 12_345, 54_321, 99_999} <= set(thin_x)
    np.testing.assert_array_equal(thin_y, y[thin_x.astype(int)])
    for limit in (600, 601):
        np.testing.assert_array_equal(charts.thin(x[:600], y[:600], limit)[1], y[:600])


def test_explanations_say_what_good_looks_like():
    for texts in (chart_texts.TRAINING, chart_texts.SPEED, chart_texts.DIAGNOSTICS):
        for tag, text in texts.items():
            words = ("good", "healthy", "rises", "lower than", "should")
            assert any(word in text.explanation.lower() for word in words), tag
