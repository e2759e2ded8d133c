"""Verdicts, facts, settings and versions of runs; none is claimed without data."""

import json

import pytest

import made_runs
from tf_simclr.checkpoints import history
from tf_simclr.report.run_files import overview, run_folder, settings_table, versions
from tf_simclr.training.metrics_file import MONITOR, TRAIN


def read(folder):
    return run_folder.read(str(folder))


def verdicts(folder) -> list[tuple[str, str]]:
    return [(v.level, v.text) for v in overview.make(read(folder), "run").verdicts]


def facts(folder) -> dict[str, tuple[str, str]]:
    return {f.name: (f.value, f.note) for f in overview.make(read(folder), "run").facts}


def test_a_healthy_run(tmp_path):
    made_runs.finished(tmp_path / "run")
    made_runs.set_times(tmp_path / "run", (1000.0, 1900.0))
    # 2 log(2 * 64 - 1) = 9.69
    assert verdicts(tmp_path / "run") == [
        (
            "good",
            "Learning: contrastive loss fell from 9.40 at step 100 to 4.10 at step 800 "
            "(chance: 9.69).",
        ),
        (
            "good",
            "Not collapsed: spread of projections 0.97 (1 if even), effective rank 41.5 at step "
            "800.",
        ),
    ]
    assert facts(tmp_path / "run") == {
        "Nearest neighbors, top-1": ("70.0%", "best, at step 400; last 60.0%"),
        "Linear evaluation, top-1": ("80.0%", "best, at step 800"),
        "Effective rank": ("41.5", "step 800"),
        "Contrastive loss": ("4.100", "step 800"),
        "Epochs": ("80", ""),
        "Time": ("15 min", ""),
    }


def test_without_data_nothing_is_claimed(tmp_path):
    made_runs.settings(tmp_path)
    levels, texts = zip(*verdicts(tmp_path), strict=True)
    assert set(levels) == {"warning"} and all(text.startswith("Cannot say") for text in texts)
    assert facts(tmp_path) == {}


def losses(folder, *values, every=100, **settings):
    made_runs.settings(folder, **settings)
    made_runs.start(folder)
    for i, value in enumerate(values, 1):
        made_runs.write(folder, made_runs.record(TRAIN, every * i, {"train/contrast_loss": value}))
    return verdicts(folder)[0]


@pytest.mark.parametrize(
    "values, every, level, begin",
    [
        ((9.7, 9.69), 100, "bad", "Not learning:"),
        ((9.7, 9.69), 10, "warning", "Too early to say"),
        ((9.7,), 500, "warning", "Too early to say"),
        ((8.0, 8.1), 100, "warning", "Not improving:"),
        ((9.7, 5.0), 10, "good", "Learning:"),
        ((12.0, 9.69), 100, "bad", "Not learning:"),  # it fell, but only to chance
    ],
)
def test_is_it_learning(tmp_path, values, every, level, begin):
    found_level, text = losses(tmp_path, *values, every=every)
    assert found_level == level and text.startswith(begin)


def test_it_is_too_early_to_say_during_the_warm_up(tmp_path):
    # 30 epochs of 640 images in batches of 64 are 300 steps, and 100 more must follow.
    assert losses(tmp_path, 9.7, 9.7, 9.7, warmup_epochs=30.0)[0] == "warning"
    made_runs.write(tmp_path, made_runs.record(TRAIN, 400, {"train/contrast_loss": 9.7}))
    assert verdicts(tmp_path)[0][0] == "bad"


@pytest.mark.parametrize("change", [{"monitor/embedding_std": 0.001}, {"monitor/rankme": 1.2}])
def test_a_collapse_is_seen_in_the_figures(tmp_path, change):
    made_runs.settings(tmp_path)
    figures = made_runs.HEALTHY | change
    made_runs.write(tmp_path, made_runs.record(MONITOR, 50, figures))
    assert verdicts(tmp_path)[1][1].startswith("Too early to say whether it has collapsed")
    made_runs.write(tmp_path, made_runs.record(MONITOR, 500, figures))
    level, text = verdicts(tmp_path)[1]
    assert level == "bad" and text.startswith("Collapsed: spread of projections")
    made_runs.write(tmp_path, made_runs.record(MONITOR, 600, made_runs.HEALTHY))
    assert verdicts(tmp_path)[1][1].startswith("Not collapsed")


def test_the_last_warnings_of_the_run_are_the_answer(tmp_path):
    made_runs.settings(tmp_path)
    warnings = ["The features have collapsed: lower --temperature"]
    record = made_runs.record(MONITOR, 500, made_runs.HEALTHY, warnings=warnings)
    made_runs.write(tmp_path, record)
    text = "The features have collapsed: lower --temperature (warning at step 500)"
    assert verdicts(tmp_path)[1:] == [("bad", text)]


def test_a_measurement_that_lacks_a_figure_gives_no_verdict(tmp_path):
    made_runs.settings(tmp_path)
    made_runs.write(tmp_path, made_runs.record(MONITOR, 500, {"monitor/rankme": 30.0}))
    assert verdicts(tmp_path)[1] == (
        "warning",
        "Cannot say whether it has collapsed: the figures at step 500 lack the spread of "
        "projections.",
    )


def test_a_run_that_diverged_says_why(tmp_path):
    made_runs.settings(tmp_path)
    made_runs.start(tmp_path)
    history.end(str(tmp_path), history.DIVERGED, step=37, message="the loss is nan in step 37")
    assert verdicts(tmp_path)[0] == ("bad", "Diverged: the loss is nan in step 37")


def test_fine_tuning_is_not_asked_about_collapse(tmp_path):
    made_runs.settings(tmp_path, train_mode="finetune")
    for step, loss in ((1, 2.0), (2, 1.0)):
        made_runs.write(tmp_path, made_runs.record(TRAIN, step, {"train/supervised_loss": loss}))
    assert verdicts(tmp_path) == [
        ("good", "Learning: supervised loss went from 2.00 at step 1 to 1.00 at step 2.")
    ]


def test_probes(tmp_path):
    made_runs.settings(tmp_path)
    made_runs.start(tmp_path)
    results = {"probe/pretrained": 0.9, "probe/raw_pixels": 0.1, "probe/untrained": 0.3}
    history.end(str(tmp_path), history.FINISHED, step=9, results=results)
    assert facts(tmp_path)["Linear probe"] == (
        "90.0%",
        "quick probe at the end of training, top-1; raw pixels 10.0%, untrained encoder 30.0%",
    )
    encoders = {"pretrained": {"logistic": {"top_1": 0.95, "l2": 1e-3}, "evil": 3}, "raw_pixels": 4}
    content = {"metric": "top_1", "dataset": "cifar10", "encoders": encoders}
    (tmp_path / "result_probe.json").write_text(json.dumps(content))
    assert facts(tmp_path)["Linear probe"] == ("95.0%", "logistic regression on cifar10, top-1")


def test_pauses_between_starts_do_not_count_as_time(tmp_path):
    made_runs.settings(tmp_path)
    for step in (0, 50):
        made_runs.start(tmp_path, step=step)
        history.end(str(tmp_path), history.STOPPED, step=50)
    made_runs.set_times(tmp_path, (1000.0, 1060.0), (90_000.0, 90_030.0))
    assert facts(tmp_path)["Time"] == ("1 min 30 s", "2 starts")


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_durations(seconds, text):
    assert overview.duration(seconds) == text


# --- Settings and versions.


def test_settings_that_differ_come_first(tmp_path):
    made_runs.settings(tmp_path / "a")
    made_runs.settings(tmp_path / "b", temperature=0.5, data_dir=str(tmp_path))
    runs = [read(tmp_path / "a"), read(tmp_path / "b")]
    rows = settings_table.rows(runs)
    first = [(row.section, row.name, row.values, row.default) for row in rows if row.differs]
    assert first == [(r.section, r.name, r.values, r.default) for r in rows[: len(first)]]
    assert ("Loss", "temperature", ("0.1", "0.5"), "0.1") in first
    assert [row.name for row in rows if row.name == "model_dir"] == []
    assert settings_table.differences(*runs) == "temperature 0.5"
    assert settings_table.differences(runs[1], runs[0]) == "temperature 0.1"
    assert settings_table.differences(runs[0], runs[0]) == ""


def test_a_setting_that_a_version_lacks_has_its_default(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "flags.json").touch()
    (tmp_path / "old" / "config.gin").write_text("Training.train_batch_size = 64\n")
    made_runs.settings(tmp_path / "new", dataset="imagenet2012", warmup_epochs=10.0, seed=None)
    runs = [read(tmp_path / "old"), read(tmp_path / "new")]
    rows = {row.name: row for row in settings_table.rows(runs)}
    assert rows["temperature"].values == ("", "0.1") and not rows["temperature"].differs
    assert rows["train_batch_size"].values == ("64", "64")


def test_a_run_whose_settings_are_damaged_counts_in_no_comparison(tmp_path):
    made_runs.settings(tmp_path / "a", temperature=0.5)
    made_runs.settings(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text("{")
    (tmp_path / "b" / "flags.json").touch()
    runs = [read(tmp_path / "a"), read(tmp_path / "b")]
    rows = settings_table.rows(runs)
    assert not any(row.differs for row in rows)
    assert {row.values[1] for row in rows} == {""}
    assert settings_table.differences(*runs) == ""
    assert settings_table.rows(runs[1:]) == ()


def test_versions_are_those_of_the_run(tmp_path):
    for name in "ab":
        made_runs.settings(tmp_path / name)
        made_runs.start(tmp_path / name, device="1 GPU, H100")
    path = tmp_path / "a" / "history.json"
    path.write_text(path.read_text().replace(history.versions()["tensorflow"], "2.99"))
    runs = [read(tmp_path / name) for name in "ab"]
    found, notes = versions.facts(runs, ["a", "b"])
    assert ("TensorFlow", "2.99", "a") in [(f.name, f.value, f.note) for f in found]
    assert ("Device", "1 GPU, H100", "") in [(f.name, f.value, f.note) for f in found]
    assert notes == ()


def test_earlier_starts_on_another_device_are_noted(tmp_path):
    made_runs.settings(tmp_path)
    made_runs.start(tmp_path, device="1 CPU")
    made_runs.start(tmp_path, step=5, device="1 GPU, H100")
    found, _ = versions.facts([read(tmp_path)], ["run"])
    assert ("Device", "1 GPU, H100", "earlier starts: 1 CPU") in [
        (f.name, f.value, f.note) for f in found
    ]


def test_runs_that_recorded_no_versions_get_a_note_and_none_of_this_machine(tmp_path):
    made_runs.settings(tmp_path)
    found, notes = versions.facts([read(tmp_path)], ["old"])
    assert (
        found == ()
        and len(notes) == 1
        and notes[0].startswith("old: versions and devices are unknown")
    )
