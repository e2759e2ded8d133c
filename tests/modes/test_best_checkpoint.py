"""--best_metric and --stop_after, with figures of the monitor that the tests choose."""

import json

import pytest

import small
from tf_simclr.checkpoints import history
from tf_simclr.training import monitor

pytestmark = [pytest.mark.long, pytest.mark.shared]
RANK, UNIFORMITY = "monitor/rankme", "monitor/uniformity"


@pytest.fixture
def run(monkeypatch, shapes_dir, tmp_path):
    """Function: (a figure's values at steps 1, 2, ..., flags) -> results of a run of 6 steps."""

    def run(metric: str, values: list[float], *flags: str) -> dict:
        measured = iter(values)
        monkeypatch.setattr(monitor, "figures", lambda _: ({metric: next(measured)}, []))
        return small.run(
            *small.RUN,
            "--dataset=shapes",
            f"--data_dir={shapes_dir}",
            "--eval_split=test",
            "--train_split=train[:16]",
            "--train_steps=6",
            "--monitor_images=16",
            "--monitor_every_epochs=1",
            f"--best_metric={metric}",
            f"--model_dir={tmp_path}/run",
            *flags,
        )

    return run


def best_of(folder) -> dict:
    return json.loads((folder / "run" / "best" / "result.json").read_text())


@pytest.mark.parametrize(
    "metric, values, best",
    [(RANK, [1.0, 5.0, 2.0, 5.0, 3.0, 4.0], 2), (UNIFORMITY, [-1.0, -2.0, -3.0, -1, -1, -1], 3)],
)
def test_the_best_measurement_is_kept_and_exported(run, tmp_path, metric, values, best):
    results = run(metric, values)
    assert results["step"] == 6
    assert results["best_step"] == best and results["best_metric"] == metric
    assert results["best_value"] == values[best - 1] and "best_top_1" not in results
    assert best_of(tmp_path)["global_step"] == best
    assert (tmp_path / "run" / "best" / f"ckpt-{best}.index").exists()
    assert results["best_saved_model"].endswith(f"saved_model_best/{best}")


def test_a_run_that_no_longer_improves_ends_and_goes_on_if_asked(run, tmp_path, capfd):
    values = [1.0, 3.0, 2.0, 2.0]
    results = run(RANK, values, "--stop_after=2")
    assert results["step"] == 4 and results["best_step"] == 2
    text = capfd.readouterr().err
    assert "Stopped early at step 4 of 6: monitor/rankme has not improved since step 2 (3)" in text
    assert (tmp_path / "run" / "ckpt-4.index").exists()
    assert history.read(str(tmp_path / "run"))[-1].end.reason == history.STOPPED_EARLY
    # The same command ends at once. A larger value goes on.
    assert run(RANK, [], "--stop_after=2")["step"] == 4
    assert "Stopped early at step 4" in capfd.readouterr().err
    assert run(RANK, [2.0, 9.0], "--stop_after=0")["step"] == 6
    assert best_of(tmp_path)["global_step"] == 6
    assert history.read(str(tmp_path / "run"))[-1].end.reason == history.FINISHED


def test_another_metric_is_refused_before_training(run, shapes_dir, tmp_path):
    run(RANK, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    message = small.refused(
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:16]",
        "--train_steps=8",
        "--monitor_images=16",
        f"--best_metric={UNIFORMITY}",
        f"--model_dir={tmp_path}/run",
    )
    assert message.startswith("best_metric must be monitor/rankme with model_dir")
