"""Embeds any number of images with Apache Beam: on this machine, on Dataflow, Flink or Spark.

tf-simclr embed --checkpoint=runs/pictures --input='photos/**/*.jpg' --output=out
tf-simclr embed --checkpoint=runs/pictures --input='shards/*.tar' --output=out --format=tfrecord
tf-simclr embed --checkpoint=gs://b/run --input='gs://b/*.tar' --output=gs://b/out \\
    --runner=DataflowRunner --project=P --region=R --temp_location=gs://b/tmp

An input shard is the unit of work: a tar, TFRecord or Parquet file, or --files_per_shard images.
The same command again does only the shards that are not finished. Options that are not listed here
go to Beam, and so do all words after --.

OUTPUT/embeddings/ has name, position (in the shard) and embedding of each image. OUTPUT/left_out/
has the names of images that cannot be decoded, with the reason. docs/embedding.md has more.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from tf_simclr import files
from tf_simclr.cli import arguments, help, model_arguments, quiet
from tf_simclr.cli.model_arguments import local_path
from tf_simclr.cli.text_table import printable
from tf_simclr.errors import ConfigError, did_you_mean

_SECONDS_BETWEEN_LOOKS = 5.0


def main(argv: Sequence[str], *, program: str = "tf-simclr embed") -> None:
    """Embeds images.

    Args:
      argv: the words after "embed".
      program: the words before argv, for messages.

    Raises:
      SystemExit: with status 1 or 2 after an error.
    """
    words = list(argv)
    own = words[: words.index("--")] if "--" in words else words
    for_beam = words[len(own) + 1 :]
    args, unknown = make_parser(program).parse_known_args(help.with_values(own))
    # Importing Beam warns about packages of Google's cloud that are not installed.
    logging.getLogger().setLevel(logging.ERROR)
    with quiet.without_chatter():
        try:
            with quiet.without_chatter(on_terminal=True):
                from tf_simclr.embed import storage

                storage.require_beam()
            text = run(args, unknown, for_beam)
        except ConfigError as error:
            sys.exit(f"{program}: {printable(str(error))}")
        except KeyboardInterrupt:
            print(f"{program}: stopped; repeat the command to go on", file=sys.stderr)
            sys.exit(130)
    print(printable(text))


def make_parser(program: str) -> argparse.ArgumentParser:
    """Makes the parser.

    Args:
      program: the words before the arguments, for messages.
    """
    parser = arguments.make_parser(program, __doc__)
    add = parser.add_argument
    add(
        "--input",
        required=True,
        action="append",
        metavar="PATTERN",
        help="files, a folder, or a pattern in quotes; may be repeated",
    )
    add("--output", required=True, metavar="DIR", help="folder of the job, new or to be resumed")
    add("--format", choices=("parquet", "tfrecord"), default="parquet", help="default parquet")
    add(
        "--input_format",
        choices=("auto", "images", "tar", "tfrecord", "parquet"),
        default="auto",
        help="what the inputs are (default auto: by the suffix of each file)",
    )
    add(
        "--image_key",
        default="image",
        metavar="NAME",
        help="feature or column of the encoded image in TFRecord and Parquet (default image)",
    )
    add("--name_key", metavar="NAME", help="that of its name (default: its position)")
    add(
        "--files_per_shard",
        type=arguments.positive,
        default=4096,
        metavar="N",
        help="image files in a shard; archives are one shard each (default 4096)",
    )
    model_arguments.add(parser)
    return parser


def run(args: argparse.Namespace, unknown: Sequence[str], for_beam: Sequence[str]) -> str:
    """Checks the arguments, runs the pipeline, and returns a summary.

    Args:
      args: our arguments.
      unknown: words that are not ours, from before a --.
      for_beam: words after it.

    Raises:
      ConfigError: an argument is wrong, or the pipeline has failed.
    """
    with quiet.without_chatter(on_terminal=True):
        from tf_simclr.embed import checks, job, listing, pipeline

    _check_unknown(unknown, pipeline.option_names())
    options = pipeline.parse_options([*unknown, *for_beam])
    config, fixed = model_arguments.parse(args)
    output = _folder(args.output)
    inputs = [local_path(text) for text in args.input]
    shards = listing.find(
        inputs, kind=args.input_format, files_per_shard=args.files_per_shard, output=output
    )
    keys = checks.check_inputs(shards, args.image_key, args.name_key)
    checks.check_output(output, args.format)
    settings, encoder = checks.open_encoder(config, fixed)
    new_job = job.Job(output, args.format, len(shards), encoder.width, keys, settings)
    finished = job.start(new_job, shards, image_size=encoder.image_size)
    if finished:
        print(f"{len(finished)} of {len(shards)} shards are finished already", file=sys.stderr)
    start = time.monotonic()
    with _Progress(output, len(shards), len(finished)):
        counts = pipeline.run(new_job, options)
    seconds = time.monotonic() - start
    return _summary(output, counts, seconds)


def _summary(output: str, counts: Any, seconds: float) -> str:
    if not counts.images:
        raise ConfigError(
            f"not one of {counts.left_out} images can be decoded: {output}/left_out says why"
        )
    text = f"Wrote {output}/embeddings: {counts.images} images in {counts.shards} shards"
    if counts.left_out:
        text += f"; left out {counts.left_out}, listed with the reasons in {output}/left_out"
    rate = f"{counts.new_images / seconds:.1f} images/s"
    return text + f"; now {counts.new_images} in {counts.new_shards} shards, {rate}"


class _Progress:
    """Counts the finished shards from time to time, because runners do not say how far they are."""

    def __init__(self, output: str, total: int, initial: int):
        from tf_simclr.console import progress

        self._output, self._done = output, initial
        self._bar = progress(total=total, desc="embed", unit="shard", initial=initial)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._bar.__enter__()
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self._bar.__exit__(*error)

    def _watch(self) -> None:
        from tf_simclr.embed import shard_files, storage

        # Listing a remote folder costs money.
        wait = _SECONDS_BETWEEN_LOOKS * (10 if files.is_url(self._output) else 1)
        while not self._end.wait(wait):
            try:
                done = len(storage.list_files(f"{self._output}/{shard_files.RECEIPTS}"))
            except Exception:  # progress is not worth an error
                continue
            self._bar.update(done - self._done)
            self._done = done


def _check_unknown(unknown: Sequence[str], beam_options: set[str]) -> None:
    """Rejects misspelled options, which Beam would ignore.

    Raises:
      ConfigError: a word is not an option, or is close to one of ours and not one of Beam's.
    """
    own = [action.dest for action in make_parser("")._actions]
    previous_is_option = False
    for word in unknown:
        name = word.removeprefix("--").partition("=")[0]
        is_option = word.startswith("--")
        if not is_option and not previous_is_option:
            raise ConfigError(
                f"unexpected {word!r}: put a pattern with * in quotes, after --input="
            )
        hint = did_you_mean(name, own, "--")
        if is_option and name not in beam_options and hint:
            raise ConfigError(
                f"unknown option --{name}{hint} Options of the runner follow after --"
            )
        previous_is_option = is_option and "=" not in word


def _folder(path: str) -> str:
    return local_path(path).rstrip("/") or "/"
