"""The command-line program: `tf-simclr` if installed, `python run.py` in a checkout."""

import gc
import os
import sys

# Hides TensorFlow's lines below fatal errors. Errors that matter are raised as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, logging  # noqa: E402

from tf_simclr.checkpoints import history  # noqa: E402
from tf_simclr.cli import flags, gin_files, quiet, summary  # noqa: E402
from tf_simclr.errors import ConfigError  # noqa: E402

# Exit status that asks a scheduler to restart the run: os.EX_TEMPFAIL, which Windows lacks.
TRY_AGAIN = 75


def main() -> None:
    """Runs the program: --version, presets, show, runs, embed, search, or a run.

    Raises:
      SystemExit: with status 1 or 2 after an error; with 75, 130, 138 or 143 if the same command
        resumes the run.
    """
    if "--version" in sys.argv[1:]:
        print(_versions())
    elif sys.argv[1:] == ["presets"]:
        print(_list_presets())
    elif sys.argv[1:2] == ["show"]:
        from tf_simclr.cli.show import main as show

        show.main(sys.argv[2:], program=f"{os.path.basename(sys.argv[0])} show")
    elif sys.argv[1:2] == ["runs"]:
        from tf_simclr.cli import runs

        runs.main(sys.argv[2:], program=f"{os.path.basename(sys.argv[0])} runs")
    elif sys.argv[1:2] == ["embed"]:
        from tf_simclr.cli import embed

        embed.main(sys.argv[2:], program=f"{os.path.basename(sys.argv[0])} embed")
    elif sys.argv[1:2] == ["search"]:
        from tf_simclr.cli import search

        search.main(sys.argv[2:], program=f"{os.path.basename(sys.argv[0])} search")
    else:
        app.run(run, flags_parser=flags.parse_or_exit)


def run(parsed: flags.Parsed) -> None:
    """Runs the experiment of a parsed command line, and prints a summary.

    Raises:
      SystemExit: see `main`.
    """
    if not logging.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    with quiet.without_chatter():
        _run(parsed)


def _run(parsed: flags.Parsed) -> None:
    # TensorFlow's modules and graphs are a million objects that live until the end. With Python's
    # defaults a tenth of the time until the first step goes into searching them for garbage.
    gc.set_threshold(50_000, 20, 20)
    with quiet.without_chatter(on_terminal=True):
        from tf_simclr import experiment  # loads TensorFlow, so only after the settings are checked
    gc.freeze()

    program = os.path.basename(sys.argv[0])
    try:
        config, recognized = experiment.adopt_checkpoint(parsed.config, fixed=parsed.explicit)
        if recognized:
            print(recognized, file=sys.stderr)
        results = experiment.run(config, fixed=parsed.explicit)
    except (ConfigError, *experiment.FAILURES) as error:
        sys.exit(f"{program}: {error}")
    except experiment.WorkerLost as lost:
        print(f"{program}: {lost}", file=sys.stderr)
        sys.exit(TRY_AGAIN)
    except experiment.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    if results:
        words = summary.program_words(sys.argv[0], sys.executable)
        print(summary.format_results(config, results, program=words))


def _versions() -> str:
    """Returns one line for a bug report: versions of tf_simclr, TensorFlow, Keras and Python."""
    return ", ".join(f"{name} {version}" for name, version in history.versions().items())


def _list_presets() -> str:
    """Returns one line per preset: the name for --gin_file, and its title."""
    titles = gin_files.preset_titles()
    width = max(map(len, titles), default=0)
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())
