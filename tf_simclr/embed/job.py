"""A job: what is embedded by which model to which folder. Its folder remembers it for a restart."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tf_simclr.embed import listing, shard_files, shard_readers, storage
from tf_simclr.embed.encoder import ModelSettings, open_shared
from tf_simclr.embed.listing import Shard
from tf_simclr.embed.shard_files import Receipt
from tf_simclr.embed.shard_readers import Keys
from tf_simclr.errors import ConfigError

_JOB, _INPUTS = "job.json", "inputs"
_VERSION = 1
_WRITERS = 32
# Settings that change embeddings, besides those that are recognized from the checkpoint.
_SETTINGS = (
    "image_range",
    "max_megapixels",
    "max_pool_padding",
    "input_normalization",
    "precision",
)


class Job(NamedTuple):
    """All that a worker needs to know. It does not grow with the number of images.

    Attributes:
      output: the folder of the job.
      format: one of shard_files.FORMATS.
      num_shards: number of shards.
      width: width of an embedding.
      keys: where examples have their values.
      model: how to open the model.
    """

    output: str
    format: str
    num_shards: int
    width: int
    keys: Keys
    model: ModelSettings


def start(job: Job, shards: list[Shard], *, image_size: int) -> set[int]:
    """Begins or resumes a job in its folder.

    Returns:
      The numbers of the shards that are finished already.

    Raises:
      ConfigError: the folder has another job, or other files.
    """
    about = describe(job, shards, image_size=image_size)
    before = storage.read_json(f"{job.output}/{_JOB}")
    if before is None:
        names = storage.list_files(job.output).keys() - {_INPUTS, storage.UNFINISHED}
        if names:
            raise ConfigError(
                f"output {job.output!r} holds other files, such as {sorted(names)[0]!r}: give a "
                "new folder"
            )
        _write_inputs(job.output, shards)
        storage.write_json(job.output, _JOB, about)
    elif before != about:
        changes = [
            f"{name} was {before.get(name)!r}, not {about.get(name)!r}"
            for name in sorted(before.keys() | about.keys())
            if before.get(name) != about.get(name)
        ]
        raise ConfigError(
            f"output {job.output!r} holds a job with other arguments or inputs "
            f"({'; '.join(changes)[:300]}): give a new folder, or repeat its arguments to resume it"
        )
    finished = storage.list_files(f"{job.output}/{shard_files.RECEIPTS}")
    return {index for index in range(job.num_shards) if f"{index:05}.json" in finished}


def _write_inputs(output: str, shards: list[Shard]) -> None:
    """Writes which inputs each shard has."""

    def write(index: int) -> None:
        content = {"kind": shards[index].kind, "paths": shards[index].paths}
        storage.write_json(output, f"{_INPUTS}/{index:05}.json", content)

    with ThreadPoolExecutor(_WRITERS) as threads:  # writing a remote file means to wait
        for _ in threads.map(write, range(len(shards))):
            pass


def describe(job: Job, shards: list[Shard], *, image_size: int) -> dict[str, Any]:
    """Describes what the embeddings depend on. Batch size and runner are not part of it."""
    config = job.model.config
    return {
        "version": _VERSION,
        "checkpoint": job.model.fingerprint,
        "image_size": image_size,
        "width": job.width,
        "settings": {name: config.to_dict()[name] for name in _SETTINGS},
        "format": job.format,
        "image_key": job.keys.image,
        "name_key": job.keys.name,
        "shards": len(shards),
        "image_files": sum(len(s.paths) for s in shards if s.kind == listing.IMAGES),
        "inputs": listing.fingerprint(shards),
    }


def check_checkpoint(output: str, model: ModelSettings) -> None:
    """Checks that a checkpoint is the one of a job.

    Args:
      output: the folder of the job.
      model: the checkpoint.

    Raises:
      ConfigError: the folder has no job, or that of another checkpoint.
    """
    about = storage.read_json(f"{output}/{_JOB}")
    if about is None:
        raise ConfigError(f"{output!r} has no {_JOB}: give the --output of tf-simclr embed")
    if about.get("checkpoint") != model.fingerprint:
        raise ConfigError(
            f"checkpoint {model.found!r} is not the one that made {output!r}: give that one, "
            "because embeddings of different networks cannot be compared"
        )


def embed_shard(job: Job, index: int) -> tuple[Receipt, bool]:
    """Does the work of one shard, unless it is finished.

    Args:
      job: the job.
      index: the number of the shard.

    Returns:
      The receipt, and whether the work was done now.
    """
    receipt = shard_files.read_receipt(job.output, index)
    if receipt:
        return receipt, False
    shard = read_shard(job.output, index)
    encoder = open_shared(job.model)
    batches = encoder.embed(shard_readers.read(shard, job.keys))
    receipt = shard_files.write(
        job.output, index, job.num_shards, batches, width=job.width, format=job.format
    )
    return receipt, True


def read_shard(output: str, index: int) -> Shard:
    """Reads which inputs a shard has.

    Raises:
      ConfigError: the file is damaged.
    """
    path = f"{output}/{_INPUTS}/{index:05}.json"
    content = storage.read_json(path) or {}
    kind, paths = content.get("kind"), content.get("paths")
    if kind in listing.KINDS and isinstance(paths, list):
        if all(isinstance(path, str) for path in paths):
            return Shard(str(kind), paths)
    raise ConfigError(f"{path} is damaged: remove the folder {output!r} and start again")


def clean_up(output: str) -> None:
    """Removes what killed workers have left behind, when all shards are finished."""
    storage.remove(f"{output}/{storage.UNFINISHED}")
