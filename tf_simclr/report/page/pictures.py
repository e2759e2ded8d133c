"""Prepares the map, the neighbors and the confusions of a report for its page."""

import base64

import numpy as np
from markupsafe import Markup

from tf_simclr.report import content
from tf_simclr.report.page import plot
from tf_simclr.report.page.text import percent, shorten, visible

# The shapes of points on the map, as paths in a square from -1 to 1. map.js reads them here.
SHAPES = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "M-.85-.85h1.7v1.7h-1.7z",
    "M0-1.15l1.1 1.9h-2.2z",
    "M0-1.2l1.1 1.2l-1.1 1.2l-1.1-1.2z",
    "M-.35-1.1h.7v.75h.75v.7h-.75v.75h-.7v-.75h-.75v-.7h.75z",
)
_DASH_ARRAYS = ("none", "8 3", "2.5 2.2", "11 2.5 2.5 2.5")
MAX_HEAT_MAP_CLASSES = 30
_TOP_CONFUSIONS = 20
_SHOWN_CLASSES = 20
# Lower bounds of the shares of a row that have one shade.
_SHADES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
_NAME_LENGTH = 100


def swatch(index: int, *, kind: str) -> Markup:
    """Draws the sample of a line or of a group of points.

    Args:
      index: index of the line in its chart, or of the group; -1 for no group.
      kind: "line" or "point".
    """
    if kind == "point":
        color = f"series-{index % plot.NUM_SERIES + 1}" if index >= 0 else "muted"
        return Markup(
            '<svg class="swatch point" viewBox="-1.4 -1.4 2.8 2.8" aria-hidden="true">'
            '<path d="{}" fill="var(--{})"/></svg>'
        ).format(SHAPES[max(index, 0) % len(SHAPES)], color)
    color_number, dashes = plot.series(index)
    return Markup(
        '<svg class="swatch" viewBox="0 0 26 8" aria-hidden="true"><path d="M0 4H26" '
        'fill="none" stroke="var(--series-{})" stroke-width="2.5" stroke-dasharray="{}"/></svg>'
    ).format(color_number, _DASH_ARRAYS[dashes])


def data_url(sprite: content.Sprite) -> str:
    """Returns the picture as a data: URL. Media types other than pictures are refused.

    Raises:
      ValueError: the media type is not one of a picture.
    """
    if sprite.media_type not in ("image/webp", "image/png", "image/jpeg"):
        raise ValueError(f"thumbnails must be WebP, PNG or JPEG, got {sprite.media_type!r}")
    return f"data:{sprite.media_type};base64,{base64.b64encode(sprite.image).decode()}"


def thumbnail(index: int, sprite: content.Sprite, label: str, symbol: str) -> Markup:
    """Cuts a thumbnail out of the sprite that the page has once, as the element `symbol`."""
    left, top = index % sprite.columns * sprite.side, index // sprite.columns * sprite.side
    # Scaling mixes neighboring pixels: half a pixel of margin keeps the next thumbnail out.
    inset, side = 0.5, sprite.side - 1
    return Markup(
        '<svg class="thumb" viewBox="{} {} {} {}" role="img" aria-label="{}">'
        '<title>{}</title><use href="#{}"/></svg>'
    ).format(left + inset, top + inset, side, side, label, label, symbol)


def map_view(view: content.EmbeddingMap) -> dict:
    """Returns what the template needs of a map: its groups with their sizes."""
    groups = np.asarray(view.groups)
    sizes = np.bincount(groups[groups >= 0], minlength=len(view.group_names))
    listed = [(i, name, int(sizes[i])) for i, name in enumerate(view.group_names)]
    unlabeled = int(np.sum(groups < 0))
    if unlabeled:
        listed.append((-1, f"no {view.grouped_by}", unlabeled))
    return {
        "method": view.method,
        "grouped_by": view.grouped_by,
        "count": len(groups),
        "groups": listed,
        "sprite": data_url(view.thumbnails),
    }


def map_data(view: content.EmbeddingMap) -> dict:
    """Returns what map.js needs: positions as uint16, in the least space that JSON allows."""
    coordinates = np.clip(np.nan_to_num(np.asarray(view.coordinates, np.float64)), 0, 1)
    positions = (coordinates * 65535).round().astype("<u2")
    groups = np.clip(np.asarray(view.groups), -1, 65534).astype("<i4") & 0xFFFF
    return {
        "positions": base64.b64encode(positions.tobytes()).decode(),
        "groups": base64.b64encode(groups.astype("<u2").tobytes()).decode(),
        "groupNames": [shorten(visible(name), _NAME_LENGTH) for name in view.group_names],
        "noGroup": f"no {view.grouped_by}",
        "names": [shorten(visible(name), _NAME_LENGTH) for name in view.names],
        "shapes": SHAPES,
        "side": view.thumbnails.side,
        "columns": view.thumbnails.columns,
    }


def neighbors_view(view: content.Neighbors) -> dict:
    """Returns what the template needs of the neighbors: one card for each query."""
    queries = []
    for q, query in enumerate(map(int, view.queries)):
        rows = []
        for e, encoder in enumerate(view.encoders):
            nearest = [int(i) for i in view.nearest[e, q]]
            hits = None if view.hits is None else [bool(hit) for hit in view.hits[e, q]]
            rows.append(
                {
                    "encoder": encoder,
                    "hits": None if hits is None else sum(hits),
                    "images": [
                        _neighbor(view, index, None if hits is None else hits[i])
                        for i, index in enumerate(nearest)
                    ],
                }
            )
        name = view.names[query]
        picture = thumbnail(
            query, view.thumbnails, shorten(visible(name), _NAME_LENGTH), "sprite-neighbors"
        )
        queries.append({"name": name, "picture": picture, "rows": rows})
    return {
        "k": view.num_neighbors,
        "searched": view.searched,
        "precision": list(zip(view.encoders, view.precision, strict=False)),
        "labeled": view.hits is not None,
        "queries": queries,
        "sprite": data_url(view.thumbnails),
        "width": view.thumbnails.columns * view.thumbnails.side,
        "height": -(-view.thumbnails.count // view.thumbnails.columns) * view.thumbnails.side,
    }


def _neighbor(view: content.Neighbors, index: int, hit: bool | None) -> dict:
    label = shorten(visible(view.names[index]), _NAME_LENGTH)
    if hit is not None:
        label += ", same class" if hit else ", other class"
    picture = thumbnail(index, view.thumbnails, label, "sprite-neighbors")
    return {"picture": picture, "mark": {None: "", True: "hit", False: "miss"}[hit]}


def confusion_view(confusion: content.Confusion) -> dict:
    """Returns what the template needs of the confusions.

    Up to 30 classes have a heat map. More classes have a list of the most frequent confusions.
    """
    counts, names = np.asarray(confusion.counts), confusion.class_names
    totals = counts.sum(1)
    shares = counts / np.maximum(totals, 1)[:, None]
    right = np.diag(counts)
    # A class without images has no accuracy.
    classes = [i for i in np.argsort(np.diag(shares), kind="stable") if totals[i]]
    accuracies = [
        {
            "name": names[i],
            "share": float(shares[i, i]),
            "right": int(right[i]),
            "of": int(totals[i]),
        }
        for i in classes
    ]
    return {
        "classifier": confusion.classifier,
        "accuracy": float(right.sum() / totals.sum()) if totals.sum() else None,
        "count": int(totals.sum()),
        "rows": _heat_map(names, counts, shares) if len(names) <= MAX_HEAT_MAP_CLASSES else None,
        "names": names,
        "worst": accuracies[:_SHOWN_CLASSES],
        "others": accuracies[_SHOWN_CLASSES:],
        "top": _top(names, counts, shares),
    }


def _heat_map(names: tuple[str, ...], counts: np.ndarray, shares: np.ndarray) -> list[dict]:
    shades = np.searchsorted(_SHADES, shares, side="right") - 1
    return [
        {
            "name": name,
            "cells": [
                {
                    "count": int(counts[i, j]),
                    "shade": ("right" if i == j else "wrong") + f"-{shades[i, j]}"
                    if counts[i, j]
                    else "zero",
                    "title": f"{visible(shorten(name, 60))} → {visible(shorten(names[j], 60))}: "
                    f"{counts[i, j]:,} ({percent(float(shares[i, j]))})",
                }
                for j in range(len(names))
            ],
        }
        for i, name in enumerate(names)
    ]


def _top(names: tuple[str, ...], counts: np.ndarray, shares: np.ndarray) -> list[dict]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:_TOP_CONFUSIONS]
    pairs = [divmod(int(place), len(names)) for place in flat]
    return [
        {
            "true": names[i],
            "predicted": names[j],
            "count": int(counts[i, j]),
            "share": float(shares[i, j]),
        }
        for i, j in pairs
        if wrong[i, j] > 0
    ]
