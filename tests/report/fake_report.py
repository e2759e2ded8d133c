"""Reports with the content of real ones, drawn from random numbers, to look at and to test."""

import io

import numpy as np
from PIL import Image, ImageDraw

from tf_simclr.report import content

CLASSES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "diamond",
    "crescent",
    "arrow",
    "hexagon",
)
RUNS = ("temperature 0.1", "temperature 0.5", "batch 64, no color distortion")
SIDE = 32


def one_run(num_images=2000) -> content.Report:
    """A finished run of 2,000 steps, with images."""
    return content.Report(
        title="runs/demo",
        created="2026-03-14 15:09",
        overviews=(_overview("demo", 0),),
        charts=charts(("",), num_steps=2000),
        images=images(num_images),
        settings=settings(1),
        versions=VERSIONS,
        notes=(
            "The map shows 2,000 of 10,000 images: --report_images=2000.",
            "Images per second before step 400 are missing: the run was resumed there.",
        ),
    )


def three_runs() -> content.Report:
    """Three finished runs: laid over each other, without images."""
    return content.Report(
        title="3 runs in runs/sweep",
        created="2026-03-14 15:09",
        overviews=tuple(_overview(name, i) for i, name in enumerate(RUNS)),
        charts=charts(RUNS, num_steps=2000),
        images=None,
        settings=settings(3),
        versions=VERSIONS,
        notes=("Images are shown for a single run only: tf-simclr show run runs/sweep/t01",),
    )


def running() -> content.Report:
    """A run that started just now: little data, no checkpoint."""
    return content.Report(
        title="runs/started",
        created="2026-03-14 15:09",
        overviews=(
            content.Overview(
                "started",
                "runs/started",
                "step 40 of 2,000",
                (
                    content.Verdict(
                        "warning",
                        "Too early to say whether it learns: 3 summaries so far; look again after "
                        "step 200.",
                    ),
                ),
                (content.Fact("Contrastive loss", "6.18", "at chance 6.24"),),
            ),
        ),
        charts={
            "Training": (
                _chart("contrast-loss", "Contrastive loss", "step", "nats", ("",), [20, 30, 40],
                       lambda t, r: 6.24 - t * 0.06, reference=("chance", 6.2364)),
                _chart("rate", "Learning rate", "step", "per step", ("",), [20],
                       lambda t, r: 0.1 + 0 * t),
            )
        },
        images=None,
        settings=settings(1),
        versions=VERSIONS,
        notes=("There is no checkpoint yet, so no images are shown.",),
    )  # fmt: skip


VERSIONS = (
    content.Fact("tf_simclr", "1.4.0"),
    content.Fact("TensorFlow", "2.15.1"),
    content.Fact("Keras", "2.15.0"),
    content.Fact("NumPy", "1.26.4"),
    content.Fact("Python", "3.11.7"),
    content.Fact("Device", "1 replica on CPU"),
)


def _overview(name, index) -> content.Overview:
    learning = content.Verdict(
        "good", "Learning: the contrastive loss fell from 6.2 to 3.1; at chance it is 6.2."
    )
    collapsed = (
        content.Verdict(
            "good",
            "Not collapsed: the embeddings vary (standard deviation 0.081 of at most 0.088), and "
            "their rank is 61 of 128.",
        ),
        content.Verdict(
            "good",
            "Not collapsed: standard deviation 0.079, rank 54 of 128.",
        ),
        content.Verdict(
            "bad",
            "Collapsed: all embeddings are nearly equal (standard deviation 0.002). Lower "
            "--temperature, or use a larger --train_batch_size.",
        ),
    )[index]
    if index == 2:
        learning = content.Verdict(
            "warning", "Not learning: the loss stays at its chance level of 6.2 since step 300."
        )
    accuracy = (93.2, 88.7, 31.0)[index]
    return content.Overview(
        name,
        f"runs/{'demo' if name == 'demo' else 'sweep/' + 't01 t05 b64'.split()[index]}",
        ("finished", "finished", "stopped early at step 1,400")[index],
        (learning, collapsed),
        (
            content.Fact("Linear probe, top-1", f"{accuracy}%", "raw pixels 30.5%"),
            content.Fact("20 nearest neighbors", f"{accuracy - 2.1:.1f}%", "raw pixels 34.0%"),
            content.Fact("Contrastive loss", "3.12", "at chance 6.24"),
            content.Fact("Duration", "4 min 12 s", "1,240 images/s"),
        ),
    )


def charts(names, num_steps) -> dict[str, tuple[content.Chart, ...]]:
    steps, few = np.arange(20, num_steps + 1, 20), np.arange(100, num_steps + 1, 100)
    pairs = tuple(f"{n}, {p}".strip(", ") for n in names for p in ("positives", "negatives"))
    return {
        "Training": (
            _chart("contrast-loss", "Contrastive loss", "step", "nats", names, steps,
                   lambda t, r: 3.1 + 3.1 * np.exp(-t * (4 - r)) + r * 0.4 + _noise(t, 0.08),
                   "How hard it is to find the other view of the same image among all views of a "
                   "batch. It falls fast, then slowly.", reference=("chance", 6.2364)),
            _chart("contrast-accuracy", "Contrastive accuracy", "step", "share of anchors", names,
                   steps, lambda t, r: 0.7 * (1 - np.exp(-t * (4 - r))) + _noise(t, 0.015),
                   "How often the positive is the most similar view of the batch."),
            _chart("sup-loss", "Loss of the supervised head", "step", "nats", names, steps,
                   lambda t, r: 0.4 + 1.9 * np.exp(-t * 3) + r * 0.2 + _noise(t, 0.05)),
            _chart("rate", "Learning rate", "step", "per step", names, steps,
                   lambda t, r: 0.3 * np.minimum(t * 10, 1) * (1 + np.cos(np.pi * t)) / 2,
                   "Linear warm-up, then a cosine."),
            _chart("speed", "Images per second", "step", "images/s", names, steps,
                   lambda t, r: 1240 + 90 * r + _noise(t, 14)),
            _chart("waiting", "Time that steps wait for data", "step", "%", names, steps,
                   lambda t, r: 3 + np.abs(_noise(t, 1.4)),
                   "Above 10%, the host is too slow: see docs/input.md."),
        ),
        "Diagnostics": (
            _chart("knn", "kNN accuracy on held-out images", "step", "%", names, few,
                   lambda t, r: 90 - 58 * np.exp(-t * 3) - 6 * r + _noise(t, 0.6)),
            _chart("alignment", "Alignment", "step", "squared distance", names, few,
                   lambda t, r: 0.3 + 0.9 * np.exp(-t * 3) + _noise(t, 0.012),
                   "Mean squared distance of positives; lower is better."),
            _chart("uniformity", "Uniformity", "step", "log of a mean", names, few,
                   lambda t, r: -3.4 * (1 - np.exp(-t * 5)) + 0.2 * r + _noise(t, 0.02)),
            _chart("similarity", "Similarity of pairs", "step", "cosine", pairs, few,
                   lambda t, r: np.where(r % 2 == 0, 0.85, 0.05) + 0.1 * np.exp(-3 * t)
                   + _noise(t, 0.006)),
            _chart("deviation", "Standard deviation of embeddings", "step", "per dimension", names,
                   few, lambda t, r: 0.081 - 0.05 * np.exp(-6 * t) + _noise(t, 0.0008),
                   reference=("largest possible", 0.0884)),
            _chart("rankme", "Effective rank (RankMe)", "step", "dimensions", names, few,
                   lambda t, r: 61 * (1 - np.exp(-4 * t)) + 4 - 7 * r + _noise(t, 0.6)),
            _chart("spectrum", "Singular values of the features", "number of the value",
                   "share of the largest", names if len(names) > 1 else
                   ("step 100", "step 1,000", "step 2,000"), np.arange(1, 129),
                   lambda t, r: np.exp(-t * (9 - 2.5 * r)), log_y=True, log_x=True),
        ),
    }  # fmt: skip


def _noise(t, scale):
    return np.random.default_rng(len(t)).normal(0, scale, len(t))


def _chart(id, title, x_label, y_label, names, x, curve, explanation="", **more):
    x = np.asarray(x, float)
    t = (x - x[0]) / max(x[-1] - x[0], 1)
    lines = tuple(content.Line(name, x, curve(t, r)) for r, name in enumerate(names))
    return content.Chart(id, title, explanation, x_label, y_label, lines, **more)


def settings(num_runs) -> tuple[content.SettingRow, ...]:
    def row(section, name, default, *values):
        values = (values or (default,)) * (1 if len(values) > 1 else num_runs)
        values = values[:num_runs]
        return content.SettingRow(section, name, values, default, len(set(values)) > 1)

    rows = [
        row("Loss", "temperature", "0.1", "0.1", "0.5", "0.1"),
        row("Training", "train_batch_size", "512", "256", "256", "64"),
        row("Augmentation", "color_jitter_strength", "1.0", "1.0", "1.0", "0.0"),
        row("Training", "train_steps", "0", "2000"),
        row("Data", "dataset", "cifar10", "shapes"),
        row("Data", "data_dir", "", "/home/ada/data/a folder with quite a long name/tfds"),
        row("Model", "resnet_depth", "50", "18"),
    ]
    plain = {
        "Model": {"width_multiplier": "1.0", "sk_ratio": "0.0", "proj_head_mode": "nonlinear",
                  "num_proj_layers": "3", "proj_out_dim": "128", "ft_proj_selector": "0"},
        "Optimizer": {"optimizer": "lars", "learning_rate": "0.3", "weight_decay": "1e-06",
                      "momentum": "0.9", "warmup_epochs": "10", "learning_rate_scaling": "linear"},
        "Data": {"image_size": "32", "cache_dataset": "False", "label_fraction": "1.0"},
        "Run": {"seed": "0", "checkpoint_steps": "0", "mixed_precision": "auto"},
    }  # fmt: skip
    rows += [row(s, name, value) for s, pairs in plain.items() for name, value in pairs.items()]
    return tuple(sorted(rows, key=lambda r: not r.differs))


def shape(kind: int, rng, side: int = SIDE) -> Image.Image:
    """A colored shape on a colored ground."""
    picture = Image.new("RGB", (4 * side, 4 * side), tuple(rng.integers(20, 110, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    color = tuple(rng.integers(120, 256, 3).tolist())
    angle = rng.uniform(0, 2 * np.pi)
    center = side * rng.uniform(1.6, 2.4, 2)
    radius = side * rng.uniform(0.9, 1.5)
    corners = {1: 4, 2: 3, 3: 10, 4: 8, 6: 4, 8: 7, 9: 6}.get(kind)
    if corners is None:
        box = (*(center - radius), *(center + radius))
        draw.ellipse(box, fill=color if kind != 5 else None, outline=color, width=side // 2)
        if kind == 7:
            draw.ellipse((*(center - radius * 0.4), *(center + radius * 1.3)), fill=(40, 40, 40))
    else:
        turns = angle + np.arange(corners) * 2 * np.pi / corners
        reach = np.where(np.arange(corners) % 2 == 1, 0.45, 1.0) if kind in (3, 4, 8) else 1.0
        points = center + radius * (reach * np.stack([np.cos(turns), np.sin(turns)])).T
        draw.polygon([tuple(p) for p in points.tolist()], fill=color)
    return picture.resize((side, side), Image.Resampling.BOX)


def sprite(kinds, seed=0) -> content.Sprite:
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(len(kinds))))
    rows = -(-len(kinds) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    # A few hundred shapes are enough to look at, and drawing thousands takes seconds.
    stock = {k: [shape(k, rng) for _ in range(24)] for k in range(len(CLASSES))}
    for i, kind in enumerate(kinds):
        picture = stock[int(kind) % len(CLASSES)][rng.integers(24)]
        sheet.paste(picture, (i % columns * SIDE, i // columns * SIDE))
    file = io.BytesIO()
    sheet.save(file, "webp", quality=60)
    return content.Sprite(file.getvalue(), "image/webp", SIDE, columns, len(kinds))


def embedding_map(num_images) -> content.EmbeddingMap:
    rng = np.random.default_rng(1)
    kinds = rng.integers(len(CLASSES), size=num_images)
    turns = np.arange(len(CLASSES)) * 2 * np.pi / len(CLASSES)
    reach = np.where(np.arange(len(CLASSES)) % 2, 0.36, 0.2)[:, None]
    centers = 0.5 + reach * np.stack([np.cos(turns), np.sin(turns)], 1)
    bent = rng.normal(size=(num_images, 2)) * [0.035, 0.022]
    bent[:, 1] += bent[:, 0] ** 2 * 8
    spin = turns[kinds] * 3
    points = centers[kinds] + np.stack(
        [
            bent[:, 0] * np.cos(spin) - bent[:, 1] * np.sin(spin),
            bent[:, 0] * np.sin(spin) + bent[:, 1] * np.cos(spin),
        ],
        1,
    )
    points = (points - points.min(0)) / np.ptp(points, axis=0)
    return content.EmbeddingMap(
        "t-SNE of 50 principal components",
        points.astype(np.float32),
        kinds,
        CLASSES,
        "class",
        tuple(f"test/{CLASSES[k]}/{i:05d}.png" for i, k in enumerate(kinds)),
        sprite(kinds),
    )


def neighbors(num_queries=6, k=8) -> content.Neighbors:
    rng = np.random.default_rng(2)
    encoders = ("raw pixels", "before training", "after training")
    kinds = rng.integers(len(CLASSES), size=num_queries)
    chances = np.array([0.3, 0.35, 0.93])[:, None, None]
    hits = rng.uniform(size=(3, num_queries, k)) < chances
    others = (kinds[None, :, None] + rng.integers(1, len(CLASSES), size=hits.shape)) % len(CLASSES)
    near = np.where(hits, kinds[None, :, None], others)
    everything = np.concatenate([kinds, near.ravel()])
    return content.Neighbors(
        encoders,
        k,
        (0.305, 0.352, 0.931),
        "10,000 training images",
        np.arange(num_queries),
        num_queries + np.arange(near.size).reshape(near.shape),
        hits,
        tuple(f"train/{i:05d}.png ({CLASSES[c]})" for i, c in enumerate(everything)),
        sprite(everything, seed=3),
    )


def confusion(num_classes=10) -> content.Confusion:
    rng = np.random.default_rng(4)
    names = CLASSES if num_classes == len(CLASSES) else [f"class {i}" for i in range(num_classes)]
    closeness = rng.gamma(0.25, 1.0, (num_classes, num_classes))
    closeness[np.arange(num_classes), np.arange(num_classes)] += rng.uniform(8, 40, num_classes)
    shares = closeness / closeness.sum(1, keepdims=True)
    counts = np.stack([rng.multinomial(200, share) for share in shares])
    return content.Confusion("20 nearest neighbors", tuple(names), counts)


def images(num_images) -> content.Images:
    return content.Images(
        "runs/demo/ckpt-2000",
        f"shapes, split test: {num_images:,} images",
        embedding_map(num_images),
        neighbors(),
        confusion(),
    )
