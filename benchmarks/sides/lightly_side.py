"""Trains SimCLR with lightly's parts in PyTorch and writes its moments.

    python -m benchmarks.sides.lightly_side STAMPS_FILE SETTINGS

SETTINGS is a JSON object with the fields of `Settings`. The parts are those of lightly's own
benchmark of SimCLR: transform, projection head, loss, LARS, schedule, and a linear classifier on
features without a gradient.
"""

import dataclasses
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.sides.stamps import CALL, CHECKPOINT, EXPORT, IMPORT, Stamps

BEGAN = time.monotonic()


@dataclasses.dataclass(frozen=True)
class Settings:
    """Holds the settings of a run.

    Attributes:
      images: folder with images.bin (encoded images one after the other), ends.npy (where each
        ends) and labels.npy.
      model_dir: folder for the checkpoint and the export.
      resnet_depth: 18 or 50.
      image_size: side of a view in pixels.
      num_classes: classes of the labels.
      color_jitter_strength: strength of the color jitter.
      use_blur: whether views are blurred.
      train_batch_size: images per step.
      train_steps: steps to train.
      checkpoint_steps: steps between checkpoints.
      precision: "float32" or "bfloat16".
      temperature: temperature of the loss.
      weight_decay: weight decay of LARS.
      learning_rate: learning rate at a batch of 256.
    """

    images: str
    model_dir: str
    resnet_depth: int
    image_size: int
    num_classes: int
    color_jitter_strength: float
    use_blur: bool
    train_batch_size: int
    train_steps: int
    checkpoint_steps: int
    precision: str
    temperature: float
    weight_decay: float
    learning_rate: float


def import_torchvision() -> None:
    """Makes torchvision importable beside a torch that is built otherwise.

    The registry's torchvision is built for CUDA. Its compiled operators do not load beside a CPU
    build of torch, and then its import fails. Networks and transforms need none of them.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", boxes)


import_torchvision()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from lightly.loss import NTXentLoss  # noqa: E402
from lightly.models.modules import SimCLRProjectionHead  # noqa: E402
from lightly.models.utils import get_weight_decay_parameters  # noqa: E402
from lightly.transforms.simclr_transform import SimCLRTransform  # noqa: E402
from lightly.utils.lars import LARS  # noqa: E402
from lightly.utils.scheduler import CosineWarmupScheduler  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Images(Dataset):
    """Decodes the images and makes two views of each."""

    def __init__(self, settings: Settings):
        """Opens the files of the folder `settings.images`."""
        folder = Path(settings.images)
        self._bytes = np.memmap(folder / "images.bin", np.uint8, mode="r")
        self._ends = np.load(folder / "ends.npy")
        self._labels = np.load(folder / "labels.npy")
        self._transform = SimCLRTransform(
            input_size=settings.image_size,
            cj_strength=settings.color_jitter_strength,
            gaussian_blur=0.5 if settings.use_blur else 0.0,
            normalize=None,
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple:
        begin = self._ends[index - 1] if index else 0
        encoded = io.BytesIO(self._bytes[begin : self._ends[index]].tobytes())
        return *self._transform(Image.open(encoded).convert("RGB")), int(self._labels[index])


class SimCLR(nn.Module):
    """The network: backbone, projection head, and the classifier."""

    def __init__(self, settings: Settings):
        """Builds the network, with the small stem for 32 pixels."""
        super().__init__()
        make = {18: torchvision.models.resnet18, 50: torchvision.models.resnet50}
        self.backbone = make[settings.resnet_depth](zero_init_residual=True)
        if settings.image_size <= 32:
            self.backbone.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
            self.backbone.maxpool = nn.Identity()
        width = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        self.projection_head = SimCLRProjectionHead(width, width, 128, num_layers=3)
        self.classifier = nn.Linear(width, settings.num_classes)

    def forward(self, views: Any) -> tuple:
        """Returns the projections and the logits of a batch of views."""
        features = self.backbone(views).flatten(start_dim=1)
        return self.projection_head(features), self.classifier(features.detach())


def make_optimizer(model: SimCLR, settings: Settings) -> tuple[Any, Any]:
    """Returns LARS and its schedule."""
    decayed, others = get_weight_decay_parameters([model.backbone, model.projection_head])
    optimizer = LARS(
        [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
            {"params": list(model.classifier.parameters()), "weight_decay": 0.0},
        ],
        lr=settings.learning_rate * settings.train_batch_size / 256,
        momentum=0.9,
        weight_decay=settings.weight_decay,
    )
    warmup = max(1, settings.train_steps // 10)
    return optimizer, CosineWarmupScheduler(optimizer, warmup, settings.train_steps)


def train(settings: Settings, stamps: Stamps) -> None:
    """Trains, writes checkpoints, and exports the backbone."""
    torch.manual_seed(1)
    model: Any = SimCLR(settings)  # torch's type hints lack the argument of the next line
    model.to(memory_format=torch.channels_last)
    optimizer, schedule = make_optimizer(model, settings)
    criterion = NTXentLoss(temperature=settings.temperature)
    loader = DataLoader(
        Images(settings),
        batch_size=settings.train_batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )
    batches = iter(loader)
    for step in range(1, settings.train_steps + 1):
        with stamps.span(CALL, steps=1):
            try:
                first, second, labels = next(batches)
            except StopIteration:
                batches = iter(loader)
                first, second, labels = next(batches)
            views = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
            reduced = settings.precision == "bfloat16"
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced):
                projections, logits = model(views)
            loss = criterion(*projections.float().chunk(2))
            loss += nn.functional.cross_entropy(logits.float(), labels.repeat(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss of step {step} is not finite")
        if step % settings.checkpoint_steps == 0:
            with stamps.span(CHECKPOINT):
                states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(states, f"{settings.model_dir}/ckpt-{step}.pt")
    with stamps.span(EXPORT):
        size = settings.image_size
        exported = torch.export.export(model.backbone.eval(), (torch.zeros(2, 3, size, size),))
        torch.export.save(exported, f"{settings.model_dir}/backbone.pt2")


def main(stamps_file: str, settings: str) -> None:
    """Runs the program; see the module's docstring."""
    stamps = Stamps(stamps_file)
    stamps.write(IMPORT, BEGAN)
    train(Settings(**json.loads(settings)), stamps)


if __name__ == "__main__":
    main(*sys.argv[1:])
