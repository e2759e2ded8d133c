"""A run's directory: who may write there, and its small files."""

import contextlib
import errno
import json
import os
import sys

import tensorflow as tf

from tf_simclr import files
from tf_simclr.data.sources.image_range import LARGEST, ImageRange
from tf_simclr.errors import ConfigError, one_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what flock says where another holds it
ABOUT = "about.json"
MAX_ABOUT_BYTES = 2**24  # twenty thousand long class names take less than one MiB
BEST = "best"  # folder of the checkpoint with the best evaluation
TOP_1 = "eval/label_top_1_accuracy"  # by which the best is chosen


@contextlib.contextmanager
def lock(model_dir: str):
    """Holds model_dir for this run; the system lets go of it when the process dies.

    A directory that does not exist yet is made, and removed again if nothing is put in it. Remote
    ones (gs://...) are not locked: they have no such thing. Where a file system or an operating
    system cannot lock, a warning says so and the run goes on.

    Raises:
      ConfigError: another run trains there, or the directory cannot be written to.
    """
    if "://" in model_dir:
        yield
        return
    made = not os.path.isdir(model_dir)
    path = os.path.join(model_dir, LOCK)
    try:
        os.makedirs(model_dir, exist_ok=True)
        file = open(path, "a")
    except OSError as error:
        raise ConfigError(
            f"model_dir {model_dir!r} cannot be written to ({one_line(error)}): name another"
        ) from error
    with file:
        if reason := _no_lock(file, model_dir):
            print(
                f"model_dir {model_dir!r} cannot be locked ({reason}): see to it that no other run "
                "trains there",
                file=sys.stderr,
            )
        try:
            yield
        finally:
            if made and os.listdir(model_dir) == [LOCK]:
                os.remove(path)
                os.rmdir(model_dir)


def _no_lock(file, model_dir: str) -> str | None:
    """Locks a file of model_dir; returns why that is not possible here, or None where it is done.

    Raises:
      ConfigError: another process holds the lock.
    """
    if fcntl is None:
        return "this operating system has no flock"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCKED:
            raise ConfigError(
                f"model_dir {model_dir!r} is in use by another run: wait for it, or name another"
            ) from None
        return one_line(error)
    return None


def eval_directory(model_dir: str, name: str | None) -> str:
    """Returns where the summaries of an evaluation go; name is eval_name."""
    return os.path.join(model_dir, "eval" + _suffix(name))


def _suffix(name: str | None) -> str:
    return f"_{name}" if name else ""


def write_results(model_dir: str, results: dict[str, float], *, step: int, name: str | None):
    """Writes result.json and result_STEP.json, as the official code does.

    Args:
      results: {metric: value}; the files hold global_step too.
      name: of the evaluation (eval_name), which goes into the files' names.
    """
    suffix = _suffix(name)
    content = json.dumps(results | {"global_step": step}, indent=2)
    for file in (f"result{suffix}.json", f"result{suffix}_{step}.json"):
        write_text(os.path.join(model_dir, file), content + "\n")


def read_best(model_dir: str) -> dict[str, float] | None:
    """Reads the results of the best checkpoint so far, as write_best left them.

    Returns:
      None before the first, and where that checkpoint is gone: a run that was killed between the
      next best checkpoint and its results has deleted it.

    Raises:
      ConfigError: the file is not what write_best writes.
    """
    path = os.path.join(model_dir, BEST, "result.json")
    if not tf.io.gfile.exists(path):
        return None
    results = files.read_json_object(path)
    step, top_1 = results.get("global_step"), results.get(TOP_1)
    if type(step) is not int or step < 0 or type(top_1) not in (int, float):
        raise ConfigError(
            f"{path} is not the result of an evaluation (global_step {one_line(repr(step))}, "
            f"{TOP_1} {one_line(repr(top_1))}): restore it, or remove it to choose the best anew"
        )
    there = tf.io.gfile.exists(os.path.join(model_dir, BEST, f"ckpt-{step}.index"))
    return results if there else None


def write_best(model_dir: str, results: dict[str, float], *, step: int):
    """Writes best/result.json, beside the checkpoint that it tells of."""
    content = json.dumps(results | {"global_step": step}, indent=2)
    write_text(os.path.join(model_dir, BEST, "result.json"), content + "\n")


def write_about(directory: str, about: dict):
    """Writes about.json: what a user of the checkpoints must know and cannot see in them.

    Args:
      directory: where the checkpoints lie.
      about: image_size, in pixels; class_names, in the order of the head's logits, or None;
        preparation, how evaluation prepares images (`augment.evaluation_preparation`).
    """
    write_text(os.path.join(directory, ABOUT), json.dumps(about, indent=2) + "\n")


def read_about(directory: str) -> dict:
    """Reads about.json, which may come from anybody.

    Args:
      directory: where the file lies: a model_dir, its `best`, or a SavedModel's assets.

    Returns:
      image_size (an int), class_names (a list of str) and image_range (an ImageRange), each None
      where the file does not say or where there is no file. Further keys are left out.

    Raises:
      ConfigError: the file cannot be read or holds something else.
    """
    path = os.path.join(directory, ABOUT)
    if not tf.io.gfile.exists(path):
        return _valid_about({})
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read(MAX_ABOUT_BYTES + 1)
        if len(content) > MAX_ABOUT_BYTES:
            raise ValueError(f"it has more than {MAX_ABOUT_BYTES} bytes")
        return _valid_about(json.loads(content))
    except (OSError, tf.errors.OpError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path!r} cannot be used ({one_line(error)}): restore it, or delete it to go on "
            "without class names"
        ) from error


def _valid_about(about) -> dict:
    """What read_about returns.

    Raises:
      ValueError: a value is not of its type.
    """
    if not isinstance(about, dict):
        raise ValueError("it holds no JSON object")
    image_size, names = about.get("image_size"), about.get("class_names")
    # bool is a subclass of int.
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise ValueError("image_size must be a positive integer")
    if names is not None:
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise ValueError("class_names must be a list of strings")
        if len(set(names)) < len(names):
            raise ValueError("class_names must differ from each other")
    return {
        "image_size": image_size,
        "class_names": names,
        "image_range": _valid_image_range(about.get("preparation")),
    }


def _valid_image_range(preparation) -> ImageRange | None:
    """The image_range of about.json's preparation, which older files lack.

    Raises:
      ValueError: a value is not of its type.
    """
    if preparation is None:
        return None
    if not isinstance(preparation, dict):
        raise ValueError("preparation must be a JSON object")
    values = preparation.get("image_range")
    if values is None:
        return None
    pair = isinstance(values, list) and [type(value) for value in values] == [int, int]
    if not pair or not 0 <= values[0] < values[1] <= LARGEST:
        raise ValueError(f"image_range must be two integers, 0 <= black < white <= {LARGEST}")
    return ImageRange(*values)


def write_text(path: str, content: str):
    """Writes a text file that is either there in full or not at all."""
    unfinished = path + ".unfinished"
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(content)
    tf.io.gfile.rename(unfinished, path, overwrite=True)
