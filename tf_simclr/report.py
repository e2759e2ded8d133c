"""The few lines that end a run: what came out, where it lies, what to type next."""

from tf_simclr.config import Config

PROBES = {
    "probe/raw_pixels": "raw pixels",
    "probe/untrained": "untrained encoder",
    "probe/pretrained": "pretrained encoder",
}


def format_results(config: Config, results: dict) -> str:
    """A summary of what experiment.run returned."""
    if config.runtime.mode == "probe":
        return _format_probe(results)
    if config.runtime.mode == "predict":
        return f"{results['path']}: {results['written']} pictures, {results['left_out']} left out"
    pretraining = config.training.train_mode == "pretrain"
    split = f"{config.data.dataset} {config.data.eval_split}"
    part, whole = results.get("evaluated", (None, None))  # where eval_steps cut it short
    evaluated = f"{part} of {whole} images of {split}" if part else split
    probes = PROBES if "probe/raw_pixels" in results else {}
    lines = ["", f"Step {results['step']}."]
    # In pretraining the classifier is only an indication, of which the probes are a better one.
    if "eval/label_top_1_accuracy" in results and not (pretraining and probes):
        top_5 = ""
        if "eval/label_top_5_accuracy" in results:  # not of fewer than five classes
            top_5 = f", top-5 {100 * results['eval/label_top_5_accuracy']:.1f}%"
        lines.append(
            f"{'Classifier trained on the side' if pretraining else 'Classifier'} on {evaluated}: "
            f"top-1 {100 * results['eval/label_top_1_accuracy']:.1f}%" + top_5
        )
    if "best_step" in results:
        lines.append(f"Best: step {results['best_step']}, top-1 {100 * results['best_top_1']:.1f}%,"
                     f" in {config.runtime.model_dir}/best and {results['best_saved_model']}")
    if probes:
        lines.append(f"Linear probes on {split}, top-1:")
    for key, name in probes.items():
        if not pretraining:
            name = name.replace("pretrained", "fine-tuned")
        accuracy = 100 * results[key]
        lines.append(f"  {name:<20}{accuracy:5.1f}%  {'#' * round(accuracy / 2)}")
    lines.append(f"Checkpoint:  {results['checkpoint']}")
    if results["saved_model"]:
        lines.append(f"SavedModel:  {results['saved_model']}")
    if "picture" in results:
        lines.append(f"Picture:     {results['picture']}")
    lines.append(f"Curves:      tensorboard --logdir={config.runtime.model_dir}")
    if pretraining:
        lines += ["Next, fine-tune the pretrained encoder:", *_finetune_command(config)]
    return "\n".join(lines)


def _finetune_command(config: Config) -> list[str]:
    model_dir = config.runtime.model_dir
    options = {
        "mode": "train_then_eval",
        "train_mode": "finetune",
        "gin_file": f"{model_dir}/config.gin",
        "checkpoint": model_dir,
        "model_dir": f"{model_dir.rstrip('/')}_finetuned",
        "zero_init_logits_layer": "True",
        "optimizer": "momentum",
        "learning_rate": "0.05",
        "warmup_epochs": "0",
    }
    written = [f"--{name}={value}" for name, value in options.items()]
    rows = [" ".join(written[i : i + 3]) for i in range(0, len(written), 3)]
    return ["  python run.py " + " \\\n    ".join(rows)]


def _format_probe(results: dict) -> str:
    """A table of what mode=probe found: rows are classifiers on encoders, per cent."""
    metrics = {"top_1": "top-1", "top_5": "top-5", "mean_per_class": "per class"}
    if not all("top_5" in a for found in results["encoders"].values() for a in found.values()):
        del metrics["top_5"]  # fewer than five classes
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
