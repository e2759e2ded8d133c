"""Measures the communication of replicas in a training step: hiddens, statistics, gradients.

The replicas are parts of this machine's CPU and communicate by TensorFlow's ring collectives, as in
MirroredStrategy. --predict computes the numbers of training on ImageNet instead.

"Hiddens" are the projections that the contrastive loss gathers; the official code calls them so.
Their baseline is the official gathering: each replica writes its hiddens into a tensor of zeros
with room for all replicas, and these tensors are summed. The baseline of batch normalization is one
all-reduce per layer and direction (Keras: three forward and two backward). The baseline of the
gradients is one all-reduce per variable.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarks import counts, local, report, scaling, timing
from benchmarks.collectives import count, total_sent
from benchmarks.counts import Settings
from benchmarks.report import Report, Row, measured
from tf_simclr.devices.replicas import gather_views
from tf_simclr.models.resnet import BLOCKS_PER_GROUP

SUM = tf.distribute.ReduceOp.SUM

NOTES = """\
- measured: milliseconds per call, including the cost of the call itself (the empty step). The
  replicas are parts of one CPU and communicate through its memory, not through a network.
- counted: one replica's collective operations in the graph of an executed step, and the sizes of
  their inputs.
- computed: what one replica sends in a ring for the counted inputs: 2(R-1)/R of an all-reduce's
  input and R-1 times an all-gather's.
- hiddens: as the dense loss exchanges them; block-wise, one number per image backward.
- Baselines: for the hiddens, the official zero-padded sum; for the BN statistics, one all-reduce
  per layer and direction (Keras: 3 forward, 2 backward); for the gradients, one all-reduce per
  variable (ours: one for all); for "against formula", the closed formula of docs/scaling.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--predict", action="store_true", help="only print the predictions of docs/scaling.md"
    )
    parser.add_argument(
        "--replicas",
        type=report.list_of(report.at_least(2)),
        default=[2, 4],
        help="numbers of replicas, separated by commas (default: 2,4)",
    )
    parser.add_argument(
        "--batch",
        type=report.list_of(report.positive),
        default=[512, 4096],
        help="images per replica, n; the hiddens of their two views are gathered; "
        "separated by commas (default: 512,4096)",
    )
    parser.add_argument(
        "--dim",
        type=report.positive,
        default=128,
        help="width of a hidden, d (default: %(default)s)",
    )
    parser.add_argument(
        "--resnet_depth",
        type=int,
        choices=sorted(BLOCKS_PER_GROUP),
        default=18,
        help="depth of the model that is exchanged (default: %(default)s)",
    )
    parser.add_argument(
        "--width_multiplier",
        type=float,
        default=0.5,
        help="its width (default: %(default)s)",
    )
    parser.add_argument(
        "--step_replicas",
        type=int,
        choices=(0, 2, 3, 4),
        default=2,
        help="replicas on which the collectives of a whole training step are "
        "counted; 0 skips this (default: %(default)s)",
    )
    parser.add_argument(
        "--step_processes",
        type=report.list_of(report.at_least(2)),
        default=[],
        help="also count them in clusters of so many processes, separated by commas",
    )
    report.add_arguments(parser, repetitions=20)


def run(args: argparse.Namespace) -> None:
    """Prints the table of the measurements, or of the predictions."""
    if args.predict:
        print(scaling.table())
        return
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(args, name) for name in names})
    out = Report("communication", repetitions=args.repetitions, json_path=args.json)
    for replicas in args.replicas:
        for row in local.in_new_process(measure, replicas, settings):
            out.add(row)
    if args.step_replicas:
        for row in local.in_new_process(counts.rows, args.step_replicas, settings):
            out.add(row)
    for processes in args.step_processes:
        where = f", {processes} processes"
        for row in local.in_cluster(counts.step_rows, processes, processes, settings, where):
            out.add(row)
    out.finish(NOTES)


def padded_sums(*views: tf.Tensor) -> list[tf.Tensor]:
    """Gathers each view with `padded_sum`."""
    return [padded_sum(view) for view in views]


def padded_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Gathers as the official code does: (n, d) of each replica -> (n * replicas, d)."""
    context = tf.distribute.get_replica_context()
    replica_id = tf.reshape(context.replica_id_in_sync_group, (1, 1))
    shape = (context.num_replicas_in_sync, *tensor.shape)
    padded = tf.scatter_nd(replica_id, tensor[tf.newaxis], shape)  # zeros except for this replica
    return tf.reshape(context.all_reduce(SUM, padded), (-1, tensor.shape[-1]))


def measure(replicas: int, settings: Settings) -> list[Row]:
    """Measures all rows except `counts.rows`. Call it in a new process."""
    strategy = local.make_strategy(replicas)
    rows = [_call_cost(strategy, settings.repetitions)]
    for n in settings.batch:
        rows += _hiddens(strategy, n, settings.dim, settings.repetitions)
    return rows + list(_model(strategy, settings))


def _call_cost(strategy, repetitions: int) -> Row:
    values = local.random(strategy, ())
    times = timing.medians([_call(strategy, lambda x: x, values)], repetitions=repetitions)
    return measured("empty step", f"R = {strategy.num_replicas_in_sync}", "ms", times)


def _hiddens(strategy, n: int, d: int, repetitions: int) -> Iterator[Row]:
    replicas = strategy.num_replicas_in_sync
    setting = f"R = {replicas}, n = {n}, d = {d}"
    hidden = local.random(strategy, (2 * n, d))
    weights = local.random(strategy, (2, replicas * n, d))

    def forward(scheme):
        return lambda hidden, weights: scheme(*tf.split(hidden, 2))

    def forward_and_backward(scheme):
        def step(hidden, weights):
            with tf.GradientTape() as tape:
                tape.watch(hidden)
                loss = tf.reduce_sum(weights * tf.stack(forward(scheme)(hidden, weights)))
            return tape.gradient(loss, hidden)

        return step

    for name, part in (("forward", forward), ("forward and backward", forward_and_backward)):
        both = [part(scheme) for scheme in (gather_views, padded_sums)]
        calls = [_call(strategy, step, hidden, weights) for step in both]
        _check_equal(*(call() for call in calls))
        times = timing.medians(calls, repetitions=repetitions)
        yield measured(f"hiddens, {name}", setting, "ms", times)
        ours, baseline = (
            total_sent(count(strategy, step, hidden, weights), replicas) for step in both
        )
        yield Row(f"hiddens, {name}: bytes sent", setting, "bytes", ours, baseline, "computed")

    calls = [_call(strategy, lambda w: [_all_reduce(view) for view in tf.unstack(w)], weights)]
    times = timing.medians(calls, repetitions=repetitions)
    yield measured("all-reduce of the gathered size", setting, "ms", times)


def _model(strategy, settings: Settings) -> Iterator[Row]:
    """Measures the exchange of a model's statistics and gradients, without the rest of its step."""
    model = settings.model_size()
    setting = f"R = {strategy.num_replicas_in_sync}, {settings.model_name}"

    def separately(*layers):
        return _one_after_the_other([*layers] * 3 + [*layers[::-1]] * 2)

    def packed(*layers):
        # The count is left out, because it is the same for all channels.
        both_sums = [tf.tile(values, [2]) for values in layers]
        return _one_after_the_other(both_sums + both_sums[::-1])

    def together(*variables):
        return _all_reduce(list(variables))

    def one_by_one(*variables):
        return [_all_reduce(values) for values in variables]

    for what, sizes, ours, baseline in (
        ("BN statistics", model.bn_channels, separately, packed),
        ("gradients", model.variables, together, one_by_one),
    ):
        values = [local.random(strategy, (size,)) for size in sizes]
        calls = [_call(strategy, step, *values) for step in (ours, baseline)]
        times = timing.medians(calls, repetitions=settings.repetitions)
        yield measured(what, setting, "ms", times)


def _one_after_the_other(tensors: list) -> list:
    """Runs all-reduces one after the other, as in the layers of a network."""
    sums: list[tf.Tensor] = []
    for tensor in tensors:
        with tf.control_dependencies(sums[-1:]):
            sums.append(_all_reduce(tensor))
    return sums


def _all_reduce(tensors):
    return tf.distribute.get_replica_context().all_reduce(SUM, tensors)


def _call(strategy, step: Callable, *values) -> Callable:
    """Returns a function that runs step(*values) on all replicas."""
    return tf.function(lambda: strategy.run(step, args=values))


def _check_equal(ours, baseline):
    """Raises AssertionError unless both sides return the same; otherwise times mean nothing."""
    ours, baseline = (tf.nest.flatten(x, expand_composites=True) for x in (ours, baseline))
    for left, right in zip(ours, baseline, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
