"""Results of evaluations: what is written, and what is read back of the best."""

import json

import pytest
import tensorflow as tf

from tf_simclr import files
from tf_simclr.checkpoints import result_files
from tf_simclr.errors import ConfigError


@pytest.mark.parametrize("name, suffix", [(None, ""), ("small", "_small")])
def test_result_files(tmp_path, name, suffix):
    results = {"eval/label_top_1_accuracy": 0.25, "eval/regularization_loss": 1.5}
    result_files.write_results(str(tmp_path), results, step=12, name=name)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"result{suffix}.json", f"result{suffix}_12.json"}
    for file in (f"result{suffix}.json", f"result{suffix}_12.json"):
        assert json.loads((tmp_path / file).read_text()) == results | {"global_step": 12}
    assert result_files.eval_directory("runs/x", name) == f"runs/x/eval{suffix}"


def test_later_results_replace_the_earlier(tmp_path):
    for step in (1, 2):
        result_files.write_results(str(tmp_path), {"eval/x": float(step)}, step=step, name=None)
    assert json.loads((tmp_path / "result.json").read_text())["global_step"] == 2
    assert json.loads((tmp_path / "result_1.json").read_text())["global_step"] == 1


def test_a_file_is_replaced_in_full_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_text(str(path), "old")
    files.write_text(str(path), "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def full(self, content):
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.io.gfile.GFile, "write", full)
    with pytest.raises(OSError, match="no space"):
        files.write_text(str(path), "newer")
    assert path.read_text() == "new"


TOP_1 = result_files.TOP_1


def error_of(function, *args) -> str:
    with pytest.raises(ConfigError) as error:
        function(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def write_best(folder, text: str, step: int = 3):
    (folder / "best").mkdir()
    (folder / "best" / f"ckpt-{step}.index").touch()
    (folder / "best" / "result.json").write_text(text)


def test_the_best_is_read_back(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "ckpt-3.index").touch()
    assert result_files.read_best(str(tmp_path), TOP_1) is None
    results = {TOP_1: 0.5, "eval/regularization_loss": 2.0}
    result_files.write_best(str(tmp_path), results, step=3, metric=TOP_1)
    assert result_files.read_best(str(tmp_path), TOP_1) == (3, TOP_1, 0.5, results)
    (tmp_path / "best" / "ckpt-3.index").unlink()
    assert result_files.read_best(str(tmp_path), TOP_1) is None


def test_a_file_of_an_earlier_version_was_chosen_by_top_1(tmp_path):
    write_best(tmp_path, json.dumps({TOP_1: 0.5, "global_step": 3}))
    assert result_files.read_best(str(tmp_path), TOP_1).value == 0.5


def test_another_metric_than_before_is_an_error_with_a_way_out(tmp_path):
    (tmp_path / "best").mkdir()
    rankme = "monitor/rankme"
    result_files.write_best(str(tmp_path), {rankme: 7.0}, step=3, metric=rankme)
    message = error_of(result_files.read_best, str(tmp_path), TOP_1)
    assert (
        message.startswith(f"best_metric must be {rankme} with model_dir") and "delete" in message
    )
    write_best_of = {"global_step": 3, TOP_1: 0.5, "best_metric": "../../rm -rf"}
    (tmp_path / "best" / "result.json").write_text(json.dumps(write_best_of))
    assert "unknown metric" in error_of(result_files.read_best, str(tmp_path), TOP_1)


@pytest.mark.parametrize(
    "metric, value, better",
    [
        ("monitor/rankme", 7.0, 7.1),
        ("monitor/uniformity", -2.0, -2.1),
        ("monitor/negative_similarity", 0.1, 0.0),
    ],
)
def test_the_direction_of_a_metric(metric, value, better):
    best = result_files.Best(3, metric, value, {})
    assert best.is_better(better) and not best.is_better(value)
    assert not best.is_better(float("nan"))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"global_step": 3},
        {TOP_1: 0.5},
        {TOP_1: "0.5", "global_step": 3},
        {TOP_1: True, "global_step": 3},
        {TOP_1: [0.5], "global_step": 3},
        {TOP_1: 0.5, "global_step": "../../3"},
        {TOP_1: 0.5, "global_step": -3},
        {TOP_1: 0.5, "global_step": "x" * 10_000},
    ],
    ids=lambda content: str(content)[:60],
)
def test_a_best_result_that_is_none_is_an_error_of_one_line(tmp_path, content):
    write_best(tmp_path, json.dumps(content))
    message = error_of(result_files.read_best, str(tmp_path), TOP_1)
    assert message.startswith(f"{tmp_path}/best/result.json is not the result") and (
        len(message) < 1000
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"global_step": NaN}', " " * 2**21],
    ids=["empty", "cut short", "a list", "null", "NaN", "huge"],
)
def test_a_best_result_that_is_corrupt_is_an_error_of_one_line(tmp_path, text):
    write_best(tmp_path, text)
    message = error_of(result_files.read_best, str(tmp_path), TOP_1)
    assert message.startswith(f"{tmp_path}/best/result.json")
