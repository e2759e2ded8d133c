"""Pretrains, fine-tunes and evaluates SimCLR. `python run.py --help` lists the settings."""

import os
import random
import sys

# TensorFlow and TFDS chatter at start-up; errors that matter come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, logging  # noqa: E402

from tf_simclr import flags, report  # noqa: E402
from tf_simclr.config import ConfigError  # noqa: E402


def main(parsed: flags.Parsed):
    if not logging.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    from tf_simclr import experiment  # TensorFlow, only once the settings are right

    config = parsed.config
    if config.runtime.seed is None:
        config = config.replace(seed=random.randrange(2**31))
    try:
        results = experiment.run(config, config_gin=flags.to_gin(config))
    except (ConfigError, *experiment.FAILURES) as error:
        sys.exit(f"run.py: {error}")
    except experiment.WorkerLost as lost:
        print(f"run.py: {lost}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except experiment.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    if results:
        program = report.program_words(sys.argv[0], sys.executable)
        print(report.format_results(config, results, program=program))


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse_or_exit)
