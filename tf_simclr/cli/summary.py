"""Formats the summary at the end of a run: its results, its files, and commands to run next."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from tf_simclr.config import Config

ENCODERS = {
    "raw_pixels": "raw pixels",
    "untrained": "untrained encoder",
    "pretrained": "pretrained encoder",
}
PROGRAM = ("python", "run.py")


def program_words(started_as: str, interpreter: str) -> tuple[str, ...]:
    """Returns the words that start this program again from the same directory.

    They contain the path of the interpreter or console command, unless the shell finds the same
    file by its name: `make demo` uses an environment that is not on the user's PATH.

    Args:
      started_as: sys.argv[0]: a script such as run.py, or a console command.
      interpreter: sys.executable.

    Returns:
      Words such as ("python", "run.py"), (".venv/bin/python", "run.py") or ("tf-simclr",).
    """
    if started_as.endswith(".py"):
        return _as_typed(interpreter), started_as
    return (_as_typed(started_as),)


def _as_typed(path: str) -> str:
    """Returns the shortest path by which a shell in this directory runs a file."""
    name = os.path.basename(path)
    on_path = shutil.which(name)
    # Do not resolve links: the interpreters of all environments may link to the same file.
    if on_path and os.path.abspath(on_path) == os.path.abspath(path):
        return name
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) or os.sep not in relative else relative


def format_results(
    config: Config, results: dict[str, Any], *, program: Sequence[str] = PROGRAM
) -> str:
    """Formats the summary of a run.

    Args:
      config: settings of the run.
      results: the return value of experiment.run.
      program: the words that start this program (`program_words`), for the commands to run next.
    """
    if config.runtime.mode == "probe":
        return _format_probe(results)
    if config.runtime.mode == "predict":
        return f"{results['path']}: {results['written']} images, {results['left_out']} left out"
    has_probes = "probe/raw_pixels" in results
    lines = ["", f"Step {results['step']}."]
    # After pretraining, the probes measure the features better than the linear classifier does.
    if not (config.training.train_mode == "pretrain" and has_probes):
        lines += _accuracy(config, results)
    if "best_step" in results:
        value = f"{results['best_metric']} {results['best_value']:.4g}"
        if "best_top_1" in results:
            value = f"top-1 {100 * results['best_top_1']:.1f}%"
        lines.append(
            f"Best: step {results['best_step']}, {value}, in {config.runtime.model_dir}/best and "
            f"{results['best_saved_model']}"
        )
    if has_probes:
        lines += _encoders(config, results)
    lines.append(f"Checkpoint:  {results['checkpoint']}")
    if results["saved_model"]:
        lines.append(f"SavedModel:  {results['saved_model']}")
    if "picture" in results:
        lines.append(f"Picture:     {results['picture']}")
    if "report" in results:
        lines.append(f"Report:      {results['report']}")
    lead = "Next, "
    for purpose, words in _next_commands(config, tuple(program)):
        lines += [f"{lead}{purpose}:", _for_the_shell(words)]
        lead = "Or "
    return "\n".join(lines)


def _accuracy(config: Config, results: dict[str, Any]) -> list[str]:
    """Returns the line with the accuracy of the supervised head, or [] if it was not evaluated."""
    if "eval/label_top_1_accuracy" not in results:
        return []
    split = f"{config.data.dataset} {config.data.eval_split}"
    images = split
    if "evaluated" in results:  # eval_steps ended the evaluation early
        num_evaluated, num_images = results["evaluated"]
        images = f"{num_evaluated} of {num_images} images of {split}"
    accuracies = [
        f"top-{k} {100 * results[key]:.1f}%"
        for k in (1, 5)
        if (key := f"eval/label_top_{k}_accuracy") in results
    ]
    pretraining = config.training.train_mode == "pretrain"
    classifier = "Linear classifier trained during pretraining" if pretraining else "Classifier"
    return [f"{classifier}, on {images}: {', '.join(accuracies)}"]


def _encoders(config: Config, results: dict[str, Any]) -> list[str]:
    """Returns bars that compare raw pixels, the untrained encoder and the trained encoder."""
    lines = []
    split = f"{config.data.dataset} {config.data.eval_split}"
    titles = {"probe": f"Linear probes on {split}, top-1:"}
    if "neighbours" in results:
        titles["neighbours"] = f"{results['neighbours']} of the same class:"
    for kind, title in titles.items():
        lines.append(title)
        for key, name in ENCODERS.items():
            if config.training.train_mode != "pretrain":
                name = name.replace("pretrained", "fine-tuned")
            percent = 100 * results[f"{kind}/{key}"]
            lines.append(f"  {name:<20}{percent:5.1f}%  {'#' * round(percent / 2)}")
    return lines


# --- Commands to run next.


def _next_commands(
    config: Config, program: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields (purpose, words of the command) for the commands that can follow the run."""
    model_dir = config.runtime.model_dir
    assert model_dir is not None  # every training run has one
    folder = os.path.dirname(program[0])  # tensorboard is installed beside the program
    tensorboard = os.path.join(folder, "tensorboard")
    yield (
        "view the learning curves and the augmented images",
        (tensorboard, f"--logdir={model_dir}"),
    )
    if config.training.train_mode != "pretrain":
        return
    if config.model.lineareval_while_pretraining and not config.data.unlabelled:
        # The linear classifier needs labels, so the data set has some.
        if config.runtime.mode != "train":  # otherwise the evaluation split may not exist
            yield (
                "evaluate the features more thoroughly, with several classifiers",
                (
                    *program,
                    "--mode=probe",
                    f"--checkpoint={model_dir}",
                    f"--model_dir={_beside(model_dir, 'probe')}",
                ),
            )
        yield "fine-tune the pretrained encoder", (*program, *_finetuning_flags(config, model_dir))
    elif config.data.dataset == "folder" and config.data.data_dir:
        yield (
            "write the embeddings of the images",
            (
                *program,
                "--mode=predict",
                f"--checkpoint={model_dir}",
                f"--images={config.data.data_dir}",
                f"--output={_beside(model_dir, 'embeddings.npy')}",
            ),
        )


def _finetuning_flags(config: Config, model_dir: str) -> tuple[str, ...]:
    values = {
        "mode": "train" if config.runtime.mode == "train" else "train_then_eval",
        "train_mode": "finetune",
        "gin_file": os.path.join(model_dir, "config.gin"),
        "checkpoint": model_dir,
        "model_dir": _beside(model_dir, "finetuned"),
        "zero_init_logits_layer": "True",
        "optimizer": "momentum",
        "learning_rate": "0.05",
        "warmup_epochs": "0",
    }
    return tuple(f"--{name}={value}" for name, value in values.items())


def _beside(model_dir: str, name: str) -> str:
    """Returns MODEL_DIR_NAME, or MODEL_DIR/NAME if model_dir is a bucket."""
    path = model_dir.rstrip("/")
    is_bucket = "://" in path and "/" not in path.split("://")[1]
    return f"{path}/{name}" if is_bucket else f"{path}_{name}"


def _for_the_shell(words: Sequence[str]) -> str:
    """Quotes a command, and breaks it into indented rows of about 100 characters."""
    rows = ["  "]
    for word in map(shlex.quote, words):
        if len(rows[-1]) + len(word) > 96 and rows[-1].strip():
            rows.append("    ")
        rows[-1] += word + " "
    return " \\\n".join(row.rstrip() for row in rows)


def _format_probe(results: dict[str, Any]) -> str:
    """Formats the results of mode=probe in percent, one row per encoder and classifier."""
    metrics = {"top_1": "top-1", "top_5": "top-5", "mean_per_class": "per class"}
    measured = {
        metric
        for classifiers in results["encoders"].values()
        for accuracies in classifiers.values()
        for metric in accuracies
    }
    metrics = {m: title for m, title in metrics.items() if m in measured}
    examples = results["examples"]
    lines = [
        "",
        f"{results['dataset']}: {examples['train']} training and {examples['test']} test images, "
        f"{results['checkpoint']}",
        f"  {'features':<14}{'classifier':<26}" + "".join(f"{m:>12}" for m in metrics.values()),
    ]
    for encoder, classifiers in results["encoders"].items():
        for name, accuracies in classifiers.items():
            if name == "logistic":
                name = f"logistic, l2 {accuracies['l2']:.2g}"
            name = name.replace("knn_", "nearest neighbors, ")
            cells = "".join(f"{100 * accuracies[m]:>12.2f}" for m in metrics)
            lines.append(f"  {encoder.replace('_', ' '):<14}{name:<26}{cells}")
    if results["metric"] != "top_1":
        lines.append(
            f"The literature reports {metrics[results['metric']]} for {results['dataset']}."
        )
    return "\n".join([*lines, f"Results:     {results['path']}"])
