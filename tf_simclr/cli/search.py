"""Searches embeddings for the nearest neighbors of images, with faiss.

tf-simclr search out --checkpoint=runs/pictures --query=photo.jpg
tf-simclr search out --checkpoint=runs/pictures --query=photo.jpg --neighbors=50 > neighbors.tsv

DIR is the --output of tf-simclr embed. The checkpoint must be the one that made it. Each line has
the query, the rank, the cosine similarity and the name, separated by tabs. Characters that a
terminal would obey are written as escapes such as \\x1b.

By default the query is compared with every embedding. --index keeps an index in a file, which later
searches read instead of the embeddings; --factory makes it smaller and faster than exact:

tf-simclr search out --checkpoint=runs/pictures --query=photo.jpg \\
    --index=out.faiss --factory=OPQ64_256,IVF4096,PQ64
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tf_simclr.cli import arguments, help, model_arguments, quiet
from tf_simclr.cli.model_arguments import local_path
from tf_simclr.cli.text_table import printable
from tf_simclr.errors import ConfigError


def main(argv: Sequence[str], *, program: str = "tf-simclr search") -> None:
    """Prints the neighbors of each query.

    Args:
      argv: the words after "search".
      program: the words before argv, for messages.

    Raises:
      SystemExit: with status 1 or 2 after an error.
    """
    args = make_parser(program).parse_args(help.with_values(argv))
    with quiet.without_chatter():
        try:
            lines = run(args)
        except ConfigError as error:
            sys.exit(f"{program}: {printable(str(error))}")
    print("\n".join(lines))


def make_parser(program: str) -> argparse.ArgumentParser:
    """Makes the parser.

    Args:
      program: the words before the arguments, for messages.
    """
    parser = arguments.make_parser(program, __doc__)
    add = parser.add_argument
    add("folder", metavar="DIR", type=local_path, help="the --output of tf-simclr embed")
    add("--query", required=True, action="append", metavar="FILE", help="an image; repeatable")
    add("--neighbors", type=arguments.positive, default=10, metavar="K", help="default 10")
    add("--index", metavar="FILE", help="index to read, or to write if it does not exist")
    add(
        "--factory",
        metavar="TEXT",
        default="Flat",
        help="kind of index, in the words of faiss.index_factory (default Flat: exact)",
    )
    add(
        "--probes",
        type=arguments.positive,
        default=32,
        metavar="N",
        help="cells that an IVF index searches: more are slower and more exact (default 32)",
    )
    model_arguments.add(parser)
    return parser


def run(args: argparse.Namespace) -> list[str]:
    """Returns a line for each neighbor.

    Raises:
      ConfigError: an argument is wrong.
    """
    with quiet.without_chatter(on_terminal=True):
        from tf_simclr.embed import checks, job, vectors

    folder = args.folder.rstrip("/")
    vectors.require_faiss()
    config, fixed = model_arguments.parse(args)
    paths = vectors.files_of(folder)
    settings, encoder = checks.open_encoder(config, fixed)
    job.check_checkpoint(folder, settings)
    queries = [encoder.embed_file(os.path.expanduser(path)) for path in args.query]
    index = _index(args, folder, paths)
    found, ids = vectors.search(index, queries, args.neighbors, probes=args.probes)
    names = vectors.names_of(paths, sorted({int(id) for row in ids for id in row if id >= 0}))
    return [
        "\t".join([printable(query), str(rank), f"{similarity:.4f}", printable(names[int(id)])])
        for query, similarities, row in zip(args.query, found, ids, strict=True)
        for rank, (similarity, id) in enumerate(zip(similarities, row, strict=True), 1)
        if id >= 0
    ]


def _index(args: argparse.Namespace, folder: str, paths: Sequence[str]) -> Any:
    """Reads or builds the index."""
    from tf_simclr.embed import vectors

    path = args.index and os.path.expanduser(args.index)
    if path and os.path.exists(path):
        return vectors.read_index(path, paths)
    index = vectors.build_index(paths, args.factory)
    if path:
        vectors.write_index(index, path, paths)
        print(f"Wrote {printable(path)}: {index.ntotal} embeddings", file=sys.stderr)
    return index
