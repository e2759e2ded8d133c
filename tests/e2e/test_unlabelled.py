"""Runs on data some of whose labels are missing: they are left out of every figure and counted."""

import functools
import json

import pytest

import partly_labeled as data
import small
from tf_simclr.errors import ConfigError

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=partly_labeled",
    "--eval_split=test",
    "--eval_batch_size=8",
    "--train_steps=3",
    "--train_summary_steps=3",
    "--mode=train_then_eval",
)
SIXTEENTHS = data.NUM_TEST - len(data.UNLABELED_TEST)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("partly_labeled"))
    data.PartlyLabeled(data_dir=folder).download_and_prepare()

    return functools.partial(small.run, *TINY, f"--data_dir={folder}")


def assert_share(value: float, of: int):
    assert of * value == pytest.approx(round(of * value), abs=1e-4)


def test_pretraining_and_a_probe_leave_them_out(run, tmp_path, capsys, events):
    results = run(f"--model_dir={tmp_path}", "--probe_summary")
    said = capsys.readouterr().err
    assert "16 examples without a label were left out of the supervised loss in steps 0 to 3" in (
        said
    )
    assert "4 of 20 examples of split test have no label and were left out" in said
    assert "16 of 48 examples of split train have no label and were left out" in said
    assert int(events(tmp_path)["train/unlabelled_examples"][3]) == 16
    assert results["eval/unlabelled_examples"] == 4
    for name in ("eval/label_top_1_accuracy", "eval/label_top_5_accuracy", "probe/pretrained"):
        assert_share(results[name], SIXTEENTHS)

    run("--mode=probe", f"--checkpoint={tmp_path}", f"--model_dir={tmp_path / 'probe'}")
    written = json.loads((tmp_path / "probe" / "result_probe.json").read_text())
    assert written["unlabelled"] == {"train": 16, "test": 4}
    for found in written["encoders"]["pretrained"].values():
        assert_share(found["top_1"], SIXTEENTHS)


def test_fine_tuning_in_micro_batches_on_few_labels_leaves_them_out(run, tmp_path, capsys):
    run(
        "--train_mode=finetune",
        "--from_scratch",
        "--microbatch_size=4",
        "--train_steps=2",
        "--label_fraction=0.5",
        f"--model_dir={tmp_path}",
    )
    said = capsys.readouterr().err
    # Of 32 labeled examples of 6 classes, whose numbers differ, half of each: none without one.
    assert "without a label" not in said and "finetune: partly_labeled, 1" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--train_split=none"],
            "train_split 'none' of partly_labeled has no labels (all are "
            "-1): set --lineareval_while_pretraining=False to pretrain without them",
        ),
        (
            ["--train_split=none", "--train_mode=finetune", "--from_scratch"],
            "needs a data set with",
        ),
        (["--eval_split=none"], "eval_split 'none' of partly_labeled has no labels"),
        (["--eval_split=none", "--mode=probe"], "eval_split 'none'"),
    ],
)
def test_a_split_without_labels_is_refused(run, tmp_path, arguments, message):
    if "--mode=probe" in arguments:
        run(f"--model_dir={tmp_path}", "--train_steps=1", "--mode=train")
    with pytest.raises(ConfigError) as error:
        run(
            f"--model_dir={tmp_path / 'run' if 'probe' not in str(arguments) else tmp_path}",
            *arguments,
        )
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
