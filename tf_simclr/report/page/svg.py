"""Draws the charts of a report as inline SVG whose colors follow the theme of the page.

Matplotlib draws them with placeholders for colors, which then become CSS variables. The page
forbids style attributes, so styles become presentation attributes.
"""

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup, escape

from tf_simclr.report import content
from tf_simclr.report.page import lines, plot
from tf_simclr.report.page.text import shorten, visible

_KEPT_STYLES = {
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "opacity",
    "fill-opacity",
    "stroke-opacity",
    "text-anchor",
}


def chart(chart: content.Chart) -> Markup:
    """Draws a chart.

    Args:
      chart: the chart. Values that are not finite, or not positive on a logarithmic axis, are left
        out.

    Returns:
      An <svg> with a title, a description, and the geometry of its axes in data attributes, for
      reading values under the pointer. `lines.table` has the table for those who cannot see it.
    """
    document, geometry = plot.draw(chart)
    return _finish(document, chart, geometry)


def _finish(svg: bytes, chart: content.Chart, geometry: dict[str, str]) -> Markup:
    root = ET.fromstring(svg)
    drawing = "".join(_element(child, chart.id) for child in root)
    attributes = "".join(f' {name}="{value}"' for name, value in geometry.items())
    return Markup(
        '<svg class="plot" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-desc"{}>'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>'
    ).format(
        plot.WIDTH,
        plot.HEIGHT,
        chart.id,
        chart.id,
        Markup(attributes),
        chart.id,
        shorten(visible(chart.title), 200),
        chart.id,
        lines.description(chart),
        Markup(drawing),
    )


def _element(element: ET.Element, prefix: str) -> str:
    """Writes an element of Matplotlib's SVG without styles, metadata and needless groups."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return ""
    inside = "".join(_element(child, prefix) for child in element)
    if element.text and tag == "text":
        inside += escape(element.text)
    attributes = _attributes(element, tag, prefix)
    if tag in ("g", "defs") and (not inside or not attributes):
        return f"<defs>{inside}</defs>" if tag == "defs" and inside else inside
    written = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def _attributes(element: ET.Element, tag: str, prefix: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in element.items():
        name = name.rpartition("}")[2]
        if name == "style":
            attributes |= _styles(value)
        elif name == "href":
            attributes[name] = f"#{prefix}-{value[1:]}"
        elif name == "clip-path":
            attributes[name] = value.replace("#", f"#{prefix}-")
        elif name == "id" and tag != "g":
            attributes[name] = f"{prefix}-{value}"
        elif name == "transform" and re.fullmatch(r"rotate\(-?0 .*\)", value):
            continue
        elif name != "id":
            attributes[name] = re.sub(r"-?\d+\.\d{3,}", _round, " ".join(value.split()))
    return attributes


def _styles(style: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in style.split(";"))
    styles = {name.strip(): value.strip() for name, _, value in pairs}
    return {
        name: plot.COLORS.get(value, value)
        for name, value in styles.items()
        if name in _KEPT_STYLES
    }


def _round(match: re.Match) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
