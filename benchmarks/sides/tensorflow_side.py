"""Runs the run.py of a checkout, of this code or of the official code, and writes its moments.

    python -m benchmarks.sides.tensorflow_side tf_simclr|official CHECKOUT STAMPS_FILE FLAGS...

The checkout is not changed. Before its main function runs, the functions below are wrapped.
"""

import functools
import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.sides.stamps import CALL, CHECKPOINT, EVALUATION, EXPORT, IMPORT, Stamps


def main(kind: str, checkout: str, stamps_file: str, flags: list[str]) -> None:
    """Runs the program.

    Args:
      kind: "tf_simclr" or "official".
      checkout: folder of its run.py.
      stamps_file: file for the moments.
      flags: command line of run.py.
    """
    sys.path.insert(0, checkout)
    sys.argv = [f"{checkout}/run.py", *flags]
    {"tf_simclr": _tf_simclr, "official": _official}[kind](Stamps(stamps_file))


def _tf_simclr(stamps: Stamps) -> None:
    began = time.monotonic()
    program = importlib.import_module("tf_simclr.cli.main")
    # The program itself imports this after it has read the flags.
    importlib.import_module("tf_simclr.experiment")
    stamps.write(IMPORT, began)
    tf = importlib.import_module("tensorflow")
    _time_calls(tf, stamps, "run_steps", num_steps=lambda iterator, num_steps: int(num_steps))
    for module, owner, name, what in (
        ("checkpoints.run_checkpoints", "Checkpointer", "save", CHECKPOINT),
        ("modes.evaluate", "RunEvaluator", "__call__", EVALUATION),
        ("modes.export", "Exporter", "export_latest", EXPORT),
    ):
        stamps.wrap(getattr(importlib.import_module(f"tf_simclr.{module}"), owner), name, what)
    program.main()


def _official(stamps: Stamps) -> None:
    began = time.monotonic()
    program = importlib.import_module("run")
    stamps.write(IMPORT, began)
    tf = program.tf
    steps = next(int(f.split("=")[1]) for f in sys.argv if f.startswith("--checkpoint_steps="))
    _time_calls(tf, stamps, "train_multiple_steps", num_steps=lambda iterator: steps)
    stamps.wrap(tf.train.CheckpointManager, "save", CHECKPOINT)
    stamps.wrap(program, "perform_evaluation", EVALUATION)
    stamps.wrap(program, "save", EXPORT)
    # As its run.py does before app.run.
    tf.compat.v1.enable_v2_behavior()
    tf.config.set_soft_device_placement(True)
    program.app.run(program.main)


def _time_calls(tf: Any, stamps: Stamps, name: str, *, num_steps: Callable[..., int]) -> None:
    """Times the calls of the tf.function that trains, and its tracing.

    Args:
      tf: TensorFlow's module, as the program names it.
      stamps: where the moments go.
      name: name of the function.
      num_steps: takes the arguments of a call and returns the number of steps that it takes.
    """
    make_function = tf.function

    def function(python_function: Callable | None = None, **options: Any) -> Callable:
        if python_function is None:
            return functools.partial(function, **options)
        if python_function.__name__ != name:
            return make_function(python_function, **options)
        traced: list[float] = []

        @functools.wraps(python_function)
        def trace(*args):  # AutoGraph converts it, and the function that it calls
            results = python_function(*args)
            _now(traced)
            return results

        run = make_function(trace, **options)

        @functools.wraps(python_function)
        def call(*args: Any) -> Any:
            began, steps = time.monotonic(), num_steps(*args)
            results = run(*args)
            tf.test.experimental.sync_devices()
            # A model that makes its variables in the step is traced twice.
            stamps.write(CALL, began, steps=steps, traced=traced[-1] if traced else None)
            traced.clear()
            return results

        return call

    @tf.autograph.experimental.do_not_convert
    def _now(times: list[float]) -> None:
        times.append(time.monotonic())

    tf.function = function


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
