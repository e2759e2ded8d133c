"""The few lines that end a run: what came out, where it lies, what to type next."""

import os
import shlex
import shutil
from collections.abc import Sequence

from tf_simclr.config import Config

ENCODERS = {
    "raw_pixels": "raw pixels",
    "untrained": "untrained encoder",
    "pretrained": "pretrained encoder",
}
PROGRAM = ("python", "run.py")


def program_words(started_as: str, interpreter: str) -> tuple[str, ...]:
    """Returns the words that start this program once more from the same directory.

    The interpreter and a console command are named by their paths unless the shell finds the same
    file by its name. `make demo` uses an environment that the user's shell knows nothing of.

    Args:
      started_as: sys.argv[0]: a script such as run.py, or a console command.
      interpreter: sys.executable.

    Returns:
      ("python", "run.py"), (".venv/bin/python", "run.py"), ("tf-simclr",), and the like.
    """
    if started_as.endswith(".py"):
        return _as_typed(interpreter), started_as
    return (_as_typed(started_as),)


def _as_typed(path: str) -> str:
    """The shortest text by which a shell in this directory runs the file."""
    name = os.path.basename(path)
    found = shutil.which(name)
    # Links are not followed: the interpreters of all environments lead to the same file.
    if found and os.path.abspath(found) == os.path.abspath(path):
        return name
    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) or os.sep not in below else below


def format_results(config: Config, results: dict, *, program: Sequence[str] = PROGRAM) -> str:
    """Formats a summary of what experiment.run returned.

    Args:
      config: of the run.
      results: of experiment.run.
      program: words that start this program (`program_words`), for the commands to type next.
    """
    if config.runtime.mode == "probe":
        return _format_probe(results)
    if config.runtime.mode == "predict":
        return f"{results['path']}: {results['written']} pictures, {results['left_out']} left out"
    has_probes = "probe/raw_pixels" in results
    lines = ["", f"Step {results['step']}."]
    # In pretraining the classifier is only an indication, of which the probes are a better one.
    if not (config.training.train_mode == "pretrain" and has_probes):
        lines += _accuracy(config, results)
    if "best_step" in results:
        lines.append(
            f"Best: step {results['best_step']}, top-1 {100 * results['best_top_1']:.1f}%,"
            f" in {config.runtime.model_dir}/best and {results['best_saved_model']}"
        )
    if has_probes:
        lines += _encoders(config, results)
    lines.append(f"Checkpoint:  {results['checkpoint']}")
    if results["saved_model"]:
        lines.append(f"SavedModel:  {results['saved_model']}")
    if "picture" in results:
        lines.append(f"Picture:     {results['picture']}")
    lead = "Next, "
    for purpose, words in _next_commands(config, tuple(program)):
        lines += [f"{lead}{purpose}:", _for_the_shell(words)]
        lead = "Or "
    return "\n".join(lines)


def _accuracy(config: Config, results: dict) -> list[str]:
    """The line with the supervised head's accuracy, where it was evaluated."""
    if "eval/label_top_1_accuracy" not in results:
        return []
    split = f"{config.data.dataset} {config.data.eval_split}"
    part, whole = results.get("evaluated", (None, None))  # where eval_steps cut it short
    evaluated = f"{part} of {whole} images of {split}" if part else split
    pretraining = config.training.train_mode == "pretrain"
    shares = [
        f"top-{k} {100 * results[key]:.1f}%"
        for k in (1, 5)
        if (key := f"eval/label_top_{k}_accuracy") in results
    ]
    classifier = "Classifier trained on the side" if pretraining else "Classifier"
    return [f"{classifier} on {evaluated}: {', '.join(shares)}"]


def _encoders(config: Config, results: dict) -> list[str]:
    """Bars that compare pixels, the untrained and the trained encoder."""
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
            share = 100 * results[f"{kind}/{key}"]
            lines.append(f"  {name:<20}{share:5.1f}%  {'#' * round(share / 2)}")
    return lines


# --- Commands to type next.


def _next_commands(config: Config, program: tuple[str, ...]):
    """Yields (what for, the command's words) of what fits the run."""
    model_dir = config.runtime.model_dir
    folder = os.path.dirname(program[0])  # tensorboard is installed beside the program
    tensorboard = os.path.join(folder, "tensorboard")
    look = (tensorboard, f"--logdir={model_dir}")
    yield "look at the learning curves and the augmented images", look
    if config.training.train_mode != "pretrain":
        return
    if config.model.lineareval_while_pretraining and not config.data.unlabelled:
        # The head on the side has needed labels, so there are some.
        if config.runtime.mode != "train":  # else nobody has looked for the evaluation split
            yield (
                "measure the features more thoroughly, by many classifiers",
                (
                    *program,
                    "--mode=probe",
                    f"--checkpoint={model_dir}",
                    f"--model_dir={_beside(model_dir, 'probe')}",
                ),
            )
        yield "fine-tune the pretrained encoder", (*program, *_finetuning(config))
    elif config.data.dataset == "folder" and config.data.data_dir:
        yield (
            "write the embeddings of the pictures",
            (
                *program,
                "--mode=predict",
                f"--checkpoint={model_dir}",
                f"--images={config.data.data_dir}",
                f"--output={_beside(model_dir, 'embeddings.npy')}",
            ),
        )


def _finetuning(config: Config) -> tuple[str, ...]:
    model_dir = config.runtime.model_dir
    options = {
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
    return tuple(f"--{name}={value}" for name, value in options.items())


def _beside(model_dir: str, name: str) -> str:
    """MODEL_DIR_NAME, or MODEL_DIR/NAME where model_dir is a bucket, beside which is nothing."""
    path = model_dir.rstrip("/")
    is_bucket = "://" in path and "/" not in path.split("://")[1]
    return f"{path}/{name}" if is_bucket else f"{path}_{name}"


def _for_the_shell(words: Sequence[str]) -> str:
    """The command, quoted and indented, in rows of at most about 100 characters."""
    rows = ["  "]
    for word in map(shlex.quote, words):
        if len(rows[-1]) + len(word) > 96 and rows[-1].strip():
            rows.append("    ")
        rows[-1] += word + " "
    return " \\\n".join(row.rstrip() for row in rows)


def _format_probe(results: dict) -> str:
    """Formats a table of what mode=probe found: rows are classifiers on encoders, per cent."""
    metrics = {"top_1": "top-1", "top_5": "top-5", "mean_per_class": "per class"}
    measured = {m for found in results["encoders"].values() for row in found.values() for m in row}
    metrics = {m: title for m, title in metrics.items() if m in measured}
    examples = results["examples"]
    lines = [
        "",
        f"{results['dataset']}: {examples['train']} training and {examples['test']} test images, "
        f"{results['checkpoint']}",
        f"  {'features':<14}{'classifier':<26}" + "".join(f"{m:>12}" for m in metrics.values()),
    ]
    for encoder, found in results["encoders"].items():
        for name, accuracies in found.items():
            if name == "logistic":
                name = f"logistic, l2 {accuracies['l2']:.2g}"
            name = name.replace("knn_", "nearest neighbours, ")
            cells = "".join(f"{100 * accuracies[m]:>12.2f}" for m in metrics)
            lines.append(f"  {encoder.replace('_', ' '):<14}{name:<26}{cells}")
    if results["metric"] != "top_1":
        lines.append(f"The literature gives {metrics[results['metric']]} for {results['dataset']}.")
    return "\n".join([*lines, f"Results:     {results['path']}"])
