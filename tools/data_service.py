"""Starts a server of tf.data service, which makes training batches on other machines.

Start one dispatcher with the addresses of all workers, one worker per machine, and then the
training (--data_service):

    python tools/data_service.py dispatcher --port=5050 --workers=cpu1:5051,cpu2:5051
    python tools/data_service.py worker --port=5051 --host=cpu1 --dispatcher=HOST:5050
    python tools/data_service.py worker --port=5051 --host=cpu2 --dispatcher=HOST:5050
    python run.py --data_service=grpc://HOST:5050 ...

The workers read the data set themselves, so --data_dir must be a path that all of them can read.
Each server runs until Ctrl-C or SIGTERM. The service has no password: keep its ports inside your
network.
"""

import argparse
import os
import signal
import socket
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402


def start(
    options: argparse.Namespace,
) -> tf.data.experimental.service.DispatchServer | tf.data.experimental.service.WorkerServer:
    """Starts the dispatcher or the worker, as the options say."""
    service = tf.data.experimental.service
    if options.part == "dispatcher":
        return service.DispatchServer(
            service.DispatcherConfig(port=options.port, worker_addresses=options.workers.split(","))
        )
    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=options.dispatcher.removeprefix("grpc://"),
            worker_address=f"{options.host}:{options.port}",
            port=options.port,
        )
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    dispatcher = parts.add_parser("dispatcher", help="distributes the work")
    dispatcher.add_argument(
        "--workers", required=True, help="HOST:PORT of each worker, separated by commas"
    )
    worker = parts.add_parser("worker", help="makes batches")
    worker.add_argument("--dispatcher", required=True, help="HOST:PORT of the dispatcher")
    worker.add_argument(
        "--host",
        default=socket.gethostname(),
        help="this machine's name, as in the dispatcher's --workers (default: %(default)s)",
    )
    for part in (dispatcher, worker):
        part.add_argument("--port", type=int, required=True, help="port to listen on")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    options = parse(argv)
    signals = {signal.SIGINT, signal.SIGTERM}
    # Must be blocked before TensorFlow starts threads: only sigwait may receive them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        server = start(options)  # noqa: F841 (it stops when no name refers to it)
    except tf.errors.OpError as error:
        print(
            f"data_service.py: {options.part} on port {options.port} cannot start: "
            f"{error.message.splitlines()[0]}",
            file=sys.stderr,
        )
        return 1
    print(f"{options.part} ready on port {options.port}", flush=True)
    signal.sigwait(signals)
    os._exit(0)  # nothing needs saving, and TensorFlow's own exit takes up to 20 seconds


if __name__ == "__main__":
    sys.exit(main())
