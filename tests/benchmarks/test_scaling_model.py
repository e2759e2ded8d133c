"""The scaling model against counted collectives, published times, and sums by hand."""

import dataclasses
import re
from collections import Counter

import pytest

from benchmarks import counts, local, network, scaling, scaling_model
from benchmarks.__main__ import main
from benchmarks.collectives import GATHER, SUM, Collective
from benchmarks.scaling_model import Assumptions, predict
from benchmarks.systems import SYSTEMS, System
from tf_simclr.models import resnet

SMALL = counts.Settings(batch=[2], dim=8, resnet_depth=18, width_multiplier=0.0625, repetitions=1)
RESNET_50 = Assumptions(
    model=network.simclr(resnet_depth=50),
    image_size=224,
    dim=128,
    precision="bfloat16",
    microbatch_size=0,
    utilization=0.2,
    overlap=0.0,
    image_kb=110,
    images_per_core=447,
)


def _collectives_of_a_step(strategy, block_rows):
    """Counts a step's collectives in a process of a cluster, of a ResNet-18 of one block."""
    resnet.BLOCKS_PER_GROUP[18] = (1,)
    return counts.step_collectives(strategy, SMALL, block_rows=block_rows)


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("block_rows, scheme", [(2, scaling.DENSE), (1, scaling.BLOCKS)])
def test_the_collectives_of_a_cluster_are_those_of_the_formulas(
    processes, block_rows, scheme, monkeypatch
):
    counted = local.in_cluster(_collectives_of_a_step, processes, block_rows)
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1,))
    n = counts.STEP_BATCH_SIZE
    expected = scaling.step(SMALL.model_size(), n, SMALL.dim, processes, scheme=scheme)
    assert Counter(counted) == Counter(expected)
    # What the model predicts: all of these but the count of the labeled images.
    monkeypatch.setattr(scaling, "ours", lambda n, replicas: scheme)
    assumed = dataclasses.replace(RESNET_50, model=SMALL.model_size(), dim=SMALL.dim)
    found = predict(assumed, SYSTEMS["8xA100"], batch=n * processes, replicas=processes)
    labels = sum(each.sent(processes) for each in scaling.labels())
    assert found.sent + labels == pytest.approx(sum(each.sent(processes) for each in counted))


@pytest.mark.parametrize("cores, hours", [(32, 6), (128, 1.5)])
def test_the_official_times_on_tpu_v3_are_those_of_one_utilization(cores, hours):
    """100 epochs: the official README, and the SimCLR paper's section 2.2."""
    assumed = dataclasses.replace(RESNET_50, utilization=0.15)
    found = predict(assumed, SYSTEMS["TPU-v3"], batch=4096, replicas=cores)
    assert 100 * 1_281_167 / found.images_per_second / 3600 == pytest.approx(hours, rel=0.1)


def test_compute_is_that_of_the_published_network():
    """4.1 billion multiply-adds a view of 224 pixels (He et al., table 1: 3.8, with v1 strides)."""
    encoder, _ = network.encoder(resnet_depth=50)
    assert sum(encoder.products) == pytest.approx(4.09e9, rel=0.01)
    found = predict(RESNET_50, SYSTEMS["8xA100"], batch=512, replicas=1)
    flops = 2 * 1024 * 3 * 4.1e9
    assert found.seconds["compute"] == pytest.approx(flops / (0.2 * 312e12), rel=0.02)
    assert found.seconds["BN"] == found.seconds["gradients"] == found.sent == 0


def test_a_ring_a_torus_and_hosts():
    slice_, hosts = System(1, 1, bandwidth=2), System(1, 1, 2, network=1, group=8)
    sums, gathered = Collective(SUM, 8 * 10**9), Collective(GATHER, 10**9)
    hop = 1e-6
    # 8 replicas are a torus of 2 x 4: 1 + 3 hops, there and back.
    assert slice_.seconds(sums, 8) == pytest.approx(2 * 7 / 8 * 8 / 2 + 8 * hop)
    # On TPUs an all-gather is a sum of padded tensors.
    assert slice_.seconds(gathered, 8) == slice_.seconds(sums, 8)
    assert hosts.seconds(sums, 8) == pytest.approx(2 * 7 / 8 * 8 / 2 + 14 * hop)
    assert hosts.seconds(gathered, 8) == pytest.approx(7 / 2 + 7 * hop)
    # 4 hosts: inside as before; an eighth, or every GPU's own tensor, goes to 3 other hosts.
    expected = 2 * 7 / 8 * 8 / 2 + 2 * 3 / 4 * 8 / 8 + (14 + 5 * 4) * hop
    assert hosts.seconds(sums, 32) == pytest.approx(expected)
    assert hosts.seconds(gathered, 32) == pytest.approx(7 * 4 / 2 + 3 + (7 + 5 * 2) * hop)


def test_memory_of_the_loss_is_dense_up_to_blocks():
    def loss(n, replicas):
        return scaling_model.memory(RESNET_50, n, replicas)["loss"]

    hiddens = 2 * 4096 * 128 * 4
    assert loss(32, 128) == 2 * hiddens + 4 * 16 * 32 * 4096
    # In blocks it grows with the batch, not with its square.
    assert loss(4096, 1) == 2 * hiddens + 8 * 512 * 4096 * 4
    assert loss(65536, 1) < 20 * loss(4096, 1)


def test_microbatches_keep_less_and_compute_a_third_more():
    parts = dataclasses.replace(RESNET_50, microbatch_size=64)
    whole, split = (
        predict(assumed, SYSTEMS["TPU-v4"], batch=4096, replicas=8)
        for assumed in (RESNET_50, parts)
    )
    assert split.memory["activations"] == whole.memory["activations"] / 8
    assert split.seconds["compute"] == pytest.approx(whole.seconds["compute"] * 4 / 3, rel=0.01)
    assert split.seconds["BN"] == 0


def test_tables_of_the_docs_are_printed_by_their_commands(capsys, repo_root):
    page = (repo_root / "docs" / "scaling.md").read_text()
    commands = re.findall(r"^    python -m benchmarks (scaling_model.*(?:\\\n.*)*)$", page, re.M)
    assert len(commands) >= 2
    for command in commands:
        main(command.replace("\\\n", "").split())
        table = capsys.readouterr().out.split("\n\n")[0]
        assert table in page, command


def test_assumptions_are_arguments(capsys):
    main(["scaling_model", "--system=TPU-v4", "--replicas=8", "--peak_tflops=1", "--utilization=1"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| TPU")]
    flops = scaling_model.flops(RESNET_50, 512, 8)
    assert row.split(" | ")[4] == f"{flops / 1e9:,.1f}"  # milliseconds at 10^12 FLOP/s


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--system=TPU-v99"], "--system must be of TPU-v3"),
        (["--replicas=3"], "--batch must be divisible by the 3 replicas, got 4096"),
        (["--utilization=0"], "--utilization must be in"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["scaling_model", *arguments])
