"""Runs a job as a pipeline of Apache Beam. Only this module and `storage` import Beam."""

import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tf_simclr.embed import job as jobs
from tf_simclr.embed import storage
from tf_simclr.embed.job import Job
from tf_simclr.errors import ConfigError, one_line

_SUMMARY = "summary.json"
_DIRECT = ("", "direct", "directrunner")


class Counts(NamedTuple):
    """Numbers of a job.

    Attributes:
      shards: number of finished shards.
      images: number of embeddings.
      left_out: number of images that were left out.
      new_shards: number of shards that this start finished.
      new_images: number of embeddings that this start computed.
    """

    shards: int = 0
    images: int = 0
    left_out: int = 0
    new_shards: int = 0
    new_images: int = 0


def parse_options(arguments: Sequence[str]) -> Any:
    """Parses the options of the runner, and gives them to Beam's file systems.

    Returns:
      Beam's PipelineOptions.

    Raises:
      ConfigError: the options are wrong.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(list(arguments))
    try:
        options.get_all_options()
    except SystemExit:  # argparse has printed what is wrong
        raise ConfigError("the options of the runner are wrong, see above") from None
    FileSystems.set_options(options)
    return options


def option_names() -> set[str]:
    """Returns the names of all options that Beam itself knows."""
    from apache_beam.options.pipeline_options import PipelineOptions

    return set(PipelineOptions([]).get_all_options())


def run(job: Job, options: Any) -> Counts:
    """Embeds all shards that are not finished, and waits for the end.

    Args:
      job: the job, which has been started.
      options: Beam's PipelineOptions.

    Raises:
      ConfigError: the pipeline has failed. What is finished is kept.
    """
    import apache_beam as beam

    storage.remove(f"{job.output}/{_SUMMARY}")
    pipeline = beam.Pipeline(runner=_runner(options), options=options)
    counts = (
        pipeline
        | "Begin" >> beam.Create([job.num_shards])
        | "Shards" >> beam.FlatMap(_numbers)
        # Otherwise one worker would get all of them.
        | "Distribute" >> beam.Reshuffle()
        | "Embed" >> beam.Map(functools.partial(_embed, job))
        | "Count" >> beam.CombineGlobally(_sum)
    )
    _ = counts | "Report" >> beam.Map(functools.partial(_write_summary, job.output))
    way_out = f"repeat the command to go on; what is finished in {job.output!r} is kept"
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # each runner has its own errors
        # The message of a worker is a traceback, whose end says what has happened.
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = one_line(lines[-1] if lines else type(error).__name__)
        raise ConfigError(f"the pipeline has failed ({reason}): {way_out}") from error
    summary = storage.read_json(f"{job.output}/{_SUMMARY}")
    if summary is None:
        raise ConfigError(f"the pipeline has ended without a summary: {way_out}")
    jobs.clean_up(job.output)
    return Counts(**{name: int(summary[name]) for name in Counts._fields})


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


def _embed(job: Job, index: int) -> tuple[int, ...]:
    """Embeds a shard. All threads of a worker process share one model."""
    receipt, is_new = jobs.embed_shard(job, index)
    return (1, *receipt, int(is_new), receipt.images if is_new else 0)


def _sum(counts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return Counts(*map(sum, zip(*counts, strict=True)))[:]


def _write_summary(output: str, counts: tuple[int, ...]) -> None:
    storage.write_json(output, _SUMMARY, Counts(*counts)._asdict())


def _runner(options: Any) -> Any:
    """Returns the direct runner of this process, or the name of another runner.

    Beam's own choice for DirectRunner begins with a program that it downloads.
    """
    from apache_beam.options.pipeline_options import StandardOptions

    name = options.view_as(StandardOptions).runner or ""
    if name.lower() not in _DIRECT:
        return name
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # Worker processes may have been started from a checkout, where the package is not installed.
    root = str(pathlib.Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    information = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(information))
