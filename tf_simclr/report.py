"""The few lines that end a run: what came out, where it lies, what to type next."""

from tf_simclr.config import Config

PROBES = {
    "probe/raw_pixels": "raw pixels",
    "probe/untrained": "untrained encoder",
    "probe/pretrained": "pretrained encoder",
}


def format_results(config: Config, results: dict) -> str:
    """A summary of what experiment.run returned."""
    pretraining = config.training.train_mode == "pretrain"
    split = f"{config.data.dataset} {config.data.eval_split}"
    probes = PROBES if "probe/raw_pixels" in results else {}
    lines = ["", f"Step {results['step']}."]
    # In pretraining the classifier is only an indication, of which the probes are a better one.
    if "eval/label_top_1_accuracy" in results and not (pretraining and probes):
        lines.append(
            f"{'Classifier trained on the side' if pretraining else 'Classifier'} on {split}: "
            f"top-1 {100 * results['eval/label_top_1_accuracy']:.1f}%, "
            f"top-5 {100 * results['eval/label_top_5_accuracy']:.1f}%"
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
