"""verify_golden accepts the golden numbers, and no number that is wrong."""

import json
import re
import shutil

import numpy as np
import pytest

import convert_checkpoint
import verify_golden
from golden_checks import images, names, report
from tf_simclr.data.augment import color
from tf_simclr.losses import blockwise
from tf_simclr.models import from_config
from tf_simclr.optim import policy

MODELS = ("r18_cifar", "r18_finetune_block2", "r34_se_adam", "r50_sk", "r50")


def verify(capsys, directory, *flags):
    """(exit status, lines)."""
    with pytest.raises(SystemExit) as stopped:
        verify_golden.main([*flags, str(directory)])
    return stopped.value.code, capsys.readouterr().out.splitlines()


def change(path, key, function):
    """Rewrites one field of an npz file."""
    with np.load(path) as file:
        values = dict(file)
    values[key] = function(values[key])
    np.savez(path, **values)


def one_element(factor):
    """Multiplies the largest element, as little as the tolerance should still notice."""

    def apply(array):
        array = array.copy()
        array.flat[np.abs(array).argmax()] *= factor
        return array

    return apply


@pytest.mark.long
def test_golden_numbers_are_ok(capsys, golden, tmp_path):
    for name in ("ntxent.npz", "lars.npz", "schedule.json", "augment.npz", "curves.json"):
        (tmp_path / name).symlink_to(golden(name))
    (tmp_path / "models").mkdir()
    model = "models/r18_finetune_block2"
    deep = "models/r34_se_adam"  # deep enough to show another order of a sum
    for name in (model, deep):
        (tmp_path / name).symlink_to(golden(name))
    (tmp_path / "notes.txt").touch()
    status, lines = verify(capsys, tmp_path)
    assert status == 0, "\n".join(lines)
    assert re.fullmatch(r"\d+ quantities compared: all ok", lines[-1])
    assert sum(" ok" in line for line in lines[1:-1]) == int(lines[-1].split()[0])
    text = "\n".join(lines)
    for quantity in (
        "ntxent.npz c1_grad",
        "ntxent.npz r4_loss",
        "lars.npz popular_nesterov",
        "schedule.json [0] total_steps",
        "schedule.json [1] learning rates",
        "augment.npz image0_eval64_crop",
        "augment.npz image2_blur_k22_s0.7",
        "augment.npz jitter_simclrv1_0.5_std_rgb b",
        "augment.npz crop_boxes_375x500 w",
        f"{model} eval|logits_sup",
        f"{model} train|supervised_loss",
        f"{model} grad_norms",
        f"{model} after_train|moving_variance_sum",
        f"{model} num_params",
        "curves.json [1] steps",
    ):
        assert re.search(rf"^{re.escape(quantity)} .* ok", text, re.MULTILINE), quantity
    assert [line.split()[0] for line in lines if "skipped" in line] == ["notes.txt"]
    assert f"note: {model}" in text
    assert re.search(
        r"^note: .* curves.json .*run.py .* tools/compare_curves.py", text, re.MULTILINE
    )


@pytest.mark.long
def test_released_forms_are_compared(capsys, golden, tmp_path):
    """The TF1 checkpoints and the SavedModel; nothing in the directory is skipped."""
    for name in ("tf1", "saved_model", "schedule.json"):
        (tmp_path / name).symlink_to(golden(name))
    status, lines = verify(capsys, tmp_path)
    text = "\n".join(lines)
    assert status == 0 and "skipped" not in text, text
    for quantity in ("tf1/r50 eval|logits_sup", "tf1/r50_sk eval|proj_head_output"):
        assert re.search(rf"^{re.escape(quantity)} .* ok", text, re.MULTILINE), quantity
    assert sum(line.startswith("saved_model eval|") for line in lines) == 10


@pytest.mark.long
def test_one_changed_number_of_each_kind_is_wrong(capsys, golden, tmp_path):
    for name in ("ntxent.npz", "lars.npz", "schedule.json"):
        shutil.copy(golden(name), tmp_path)
    with np.load(golden("augment.npz")) as file:
        few = [key for key in file.files if key.startswith(("image2", "crop_boxes"))]
        np.savez(tmp_path / "augment.npz", **{key: file[key] for key in few})
    model = tmp_path / "models" / "mine"
    shutil.copytree(golden("models/r18_cifar"), model)
    for path in tmp_path.rglob("*.*"):
        path.chmod(0o644)

    change(tmp_path / "ntxent.npz", "c1_logits_ab", one_element(1.0003))
    change(tmp_path / "ntxent.npz", "r2_grad", one_element(1.003))
    change(tmp_path / "lars.npz", "nesterov|step5|dense/bias", one_element(1.00003))
    change(tmp_path / "augment.npz", "image2_eval32_crop", lambda a: a + 0.009)
    change(tmp_path / "augment.npz", "image2_gray", one_element(1.0001))
    change(tmp_path / "augment.npz", "crop_boxes_375x500", lambda a: a + [0, 0, 30, 0])
    settings = json.loads((tmp_path / "schedule.json").read_text())
    settings[1]["values"][3] *= 1.001
    settings[2]["total_steps"] += 1
    (tmp_path / "schedule.json").write_text(json.dumps(settings))
    expected = model / "expected.npz"
    for key in ("eval|block_group2", "train|logits_sup"):
        change(expected, key, one_element(1.0003))
    smallest = np.load(expected)["grad_norms"].argmin()
    change(expected, "grad_norms", lambda a: np.where(np.arange(len(a)) == smallest, a * 1.003, a))
    change(expected, "after_train|moving_mean_sum", one_element(1.0003))
    change(expected, "num_params", lambda a: a - 1)

    status, lines = verify(capsys, tmp_path)
    assert status == 1
    wrong = [re.split(r"  +", line)[0] for line in lines if " WRONG" in line][:-1]
    moved = wrong[-1]
    assert not any(line.startswith("note:") for line in lines)
    assert re.fullmatch(r"models/mine after_train\|moving_mean_sum .+/bn", moved)
    assert sorted(set(wrong) - {moved}) == sorted(
        [
            "ntxent.npz c1_logits_ab",
            "ntxent.npz r2_grad",
            "lars.npz nesterov step5|dense/bias",
            "augment.npz image2_eval32_crop",
            "augment.npz image2_gray",
            "augment.npz crop_boxes_375x500 h",
            "schedule.json [1] learning rates",
            "schedule.json [2] total_steps",
            "models/mine eval|block_group2",
            "models/mine train|logits_sup",
            "models/mine grad_norms head_contrastive/layer3/dense/bn/gamma",
            "models/mine num_params",
        ]
    )
    assert re.fullmatch(r"13 of \d+ quantities WRONG", lines[-1])


@pytest.mark.long
def test_fast_paths_are_compared(capsys, golden, monkeypatch, tmp_path):
    shutil.copy(golden("ntxent.npz"), tmp_path)
    with np.load(golden("augment.npz")) as file:
        few = [
            key
            for key in file.files
            if key.startswith(("image0_patch", "image2", "crop_boxes", "jitter_simclrv2_1.0"))
        ]
        np.savez(tmp_path / "augment.npz", **{key: file[key] for key in few})
    status, lines = verify(capsys, tmp_path, "--fast")
    assert status == 0, "\n".join(lines)
    monkeypatch.setattr(blockwise, "_SELF_AND_POSITIVE_MASK", 1.0)  # an anchor then meets itself
    hue, contrast = (
        op._replace(on_planes=lambda planes, amount: planes) for op in (color.HUE, color.CONTRAST)
    )
    monkeypatch.setitem(images._PIXEL_OPS, "hue", hue)
    ops = (color.BRIGHTNESS, contrast, color.SATURATION, hue)
    monkeypatch.setitem(color.OPERATIONS, "simclrv2", ops)
    status, lines = verify(capsys, tmp_path, "--fast")
    wrong = " ".join(line for line in lines if " WRONG" in line)
    assert status == 1
    for part in ("r2_loss", "image2_hue_", "jitter_simclrv2_1.0_std_rgb"):
        assert part in wrong


def test_nothing_to_compare_is_no_success(capsys, tmp_path):
    assert verify(capsys, tmp_path)[0] == 1
    (tmp_path / "README.md").touch()
    status, lines = verify(capsys, tmp_path)
    assert status == 1 and lines[-1] == "nothing was compared"


def test_broken_files_are_wrong_in_one_line(capsys, tmp_path):
    (tmp_path / "lars.npz").write_text("not a zip file")
    (tmp_path / "schedule.json").write_text("{")
    np.savez(tmp_path / "ntxent.npz", c0_loss=1.0, c0_unheard_of=1.0)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    np.savez(tmp_path / "models" / "mine" / "expected.npz", args=["--resnet_depth=19"])
    (tmp_path / "tf1" / "empty").mkdir(parents=True)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "curves.json").write_text("{}")
    status, lines = verify(capsys, tmp_path)
    assert status == 1 and lines[-1] == "7 of 7 quantities WRONG"
    text = "\n".join(lines)
    names = ["lars.npz", "schedule.json", "ntxent.npz c0", "models/mine"]
    for name in [*names, "tf1/empty", "saved_model", "curves.json"]:
        assert re.search(rf"^{re.escape(name)} .* WRONG .*\w+Error", text, re.MULTILINE), name
    assert "resnet_depth must be one of" in text and "Traceback" not in text
    assert re.search(r"^ntxent.npz c0_unheard_of .* not compared", text, re.MULTILINE)


@pytest.mark.parametrize(
    "got, expected",
    [
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([[1.0]], [1.0]),
        ([], []),
        ([1e-30], [0.0]),
    ],
)
def test_what_cannot_be_compared_is_wrong(capsys, got, expected):
    lines = report.Report()
    lines.close("x", got, expected, relative=1e-4)
    assert lines.num_wrong == lines.compared == 1


@pytest.mark.parametrize("name", MODELS)
def test_official_names_map_one_to_one(golden, name):
    folder = golden(f"models/{name}")
    expected = np.load(folder / "expected.npz")
    config = convert_checkpoint.parse_settings([str(arg) for arg in expected["args"]])
    model = from_config.make_model(config, 10)
    ours = policy.groups(model)
    paths = names.our_paths([str(n) for n in expected["grad_names"]], ours)
    assert sorted(paths.values()) == sorted(ours) and len(paths) == expected["num_trainable"]
    if name == "r50_sk":
        prefix = "resnet/block_group1/bottleneck_block"
        assert paths[f"{prefix}/conv2d_fixed_padding_3/conv2d_3/kernel:0"].endswith(
            "block_group1/block1/shortcut/kernel"
        )
        assert paths[f"{prefix}_2/sk__conv2d_2/conv2d_17/kernel:0"].endswith(
            "block_group1/block3/sk/expand/kernel"
        )
    with pytest.raises(ValueError):
        names.our_paths([str(n) for n in expected["grad_names"][:-1]], ours)
