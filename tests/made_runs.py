"""Makes the files of runs by hand, as a run leaves them, without training."""

import json
from pathlib import Path

from tf_simclr.checkpoints import history
from tf_simclr.config import Config, saved_settings
from tf_simclr.training import metrics_file
from tf_simclr.training.metrics_file import EVAL, MONITOR, TRAIN, Record

BASE = {"dataset": "cifar10", "train_batch_size": 64, "warmup_epochs": 0.0, "seed": 3}
TOP_1 = "eval/label_top_1_accuracy"
HEALTHY = {
    "monitor/embedding_std": 0.97,
    "monitor/rankme": 41.5,
    "monitor/knn_top_1": 0.625,
    "monitor/images": 256.0,
    "monitor/seconds": 1.0,
}


def settings(folder: Path, **values) -> None:
    """Writes config.json and config.gin."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Config().replace(**(BASE | values))
    (folder / "config.json").write_text(saved_settings.to_json(config))
    (folder / "config.gin").write_text(saved_settings.to_gin(config))


def record(kind: str, step: int, values: dict, **more) -> Record:
    """Makes a record; a step takes a second, and an epoch has ten steps."""
    return Record(kind, step, step / 10, 1000.0 + step, values, **more)


def write(folder: Path, *records: Record) -> None:
    """Appends records to metrics.jsonl."""
    writer = metrics_file.Writer(str(folder))
    for each in records:
        writer.write(each)
    writer.close()


def start(folder: Path, *, step: int = 0, total_steps: int = 800, device: str = "1 CPU") -> None:
    """Records a start in history.json."""
    history.add_start(str(folder), step=step, total_steps=total_steps, num_train=640, device=device)


def set_times(folder: Path, *times: tuple[float, float | None]) -> None:
    """Sets the times of starts and ends in history.json."""
    path = folder / history.HISTORY
    content = json.loads(path.read_text())
    for entry, (began, ended) in zip(content["starts"], times, strict=True):
        entry["time"] = began
        if ended is not None:
            entry["end"]["time"] = ended
    path.write_text(json.dumps(content))


def finished(folder: Path, *, steps: int = 800, last_loss: float = 4.1, **values) -> Path:
    """Makes a finished run of pretraining that has learned something."""
    settings(folder, train_steps=steps, **values)
    start(folder, total_steps=steps)
    for step in range(100, steps + 1, 100):
        loss = 9.4 + (last_loss - 9.4) * (step - 100) / max(steps - 100, 1)
        write(folder, record(TRAIN, step, {"train/contrast_loss": loss, "learning_rate": 0.1}))
    spectrum = [1.0, 0.5, 0.25, 0.0]
    for step, knn in ((steps // 2, 0.7), (steps, 0.6)):
        values = HEALTHY | {"monitor/knn_top_1": knn}
        write(folder, record(MONITOR, step, values, spectrum=spectrum))
    (folder / "eval").mkdir()
    write(folder / "eval", record(EVAL, steps, {TOP_1: 0.8}))
    (folder / "result.json").write_text(json.dumps({TOP_1: 0.8, "global_step": steps}))
    history.end(str(folder), history.FINISHED, step=steps, results={TOP_1: 0.8})
    return folder
