"""Turns a report into one HTML file that needs no network and runs no code but its own.

The looks are in the files beside this module: page.html, macros.html, page.css, theme.js, charts.js
and map.js.
"""

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
import json
from typing import Any

import jinja2
from markupsafe import Markup

from tf_simclr.report import content
from tf_simclr.report.page import lines, pictures, svg, text

# The file should be small enough to send by mail.
SIZE_LIMIT = 3_000_000
_SCRIPTS = ("theme.js", "charts.js", "map.js")


def render(report: content.Report) -> str:
    """Renders a report as HTML.

    Args:
      report: the content. Its texts are untrusted.

    Returns:
      The text of an HTML file, to be written as UTF-8. Its content security policy allows no
      address, no style and no script but those in the file.
    """
    report = _visible(report)
    css, *scripts = (_read(name) for name in ("page.css", *_SCRIPTS))
    several = len(report.overviews) > 1
    charts = _charts(report)
    images = report.images
    context = {
        "report": report,
        "several": several,
        "css": Markup(css),
        "scripts": dict(zip(_SCRIPTS, map(Markup, scripts), strict=True)),
        "policy": _policy([css], scripts),
        "charts": charts,
        "map": pictures.map_view(images.map) if images and images.map else None,
        "neighbors": pictures.neighbors_view(images.neighbors)
        if images and images.neighbors
        else None,
        "confusion": pictures.confusion_view(images.confusion)
        if images and images.confusion
        else None,
        "settings": _settings(report),
        "data": _json(_data(report)),
    }
    context["sections"] = _sections(report, context)
    return _environment().get_template("page.html").render(context)


def _visible(part: Any) -> Any:
    """Returns a part of a report with all its texts made visible, so that none can be forgotten."""
    if isinstance(part, str):
        return text.visible(part)
    if isinstance(part, tuple):
        return tuple(map(_visible, part))
    if isinstance(part, dict):
        return {_visible(key): _visible(value) for key, value in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        names = [field.name for field in dataclasses.fields(part)]
        return dataclasses.replace(part, **{name: _visible(getattr(part, name)) for name in names})
    return part


def _data(report: content.Report) -> dict:
    """Returns what the scripts read: the points of charts, and the map."""
    charts = {
        chart.id: lines.readable(chart) for charts in report.charts.values() for chart in charts
    }
    images = report.images
    return {
        "charts": charts,
        "map": pictures.map_data(images.map) if images and images.map else None,
    }


def _charts(report: content.Report) -> list[dict]:
    groups: list[dict] = []
    for heading, charts in report.charts.items():
        views = [
            {
                "chart": chart,
                "svg": svg.chart(chart),
                "table": lines.table(chart),
                "left_out": lines.num_left_out(chart),
                "legend": [
                    {"name": line.name, "series_index": i, "last": lines.last(line, chart)}
                    for i, line in enumerate(chart.lines)
                ],
            }
            for chart in charts
        ]
        if views:
            groups.append({"heading": heading, "id": f"charts-{len(groups)}", "charts": views})
    return groups


def _settings(report: content.Report) -> dict:
    """Separates the settings that differ or are not default from the rest, which go by section."""
    changed: list[content.SettingRow] = []
    sections: dict[str, list[content.SettingRow]] = {}
    for row in report.settings:
        if row.differs or any(value not in ("", row.default) for value in row.values):
            changed.append(row)
        else:
            sections.setdefault(row.section, []).append(row)
    return {
        "changed": changed,
        "sections": sections,
        "num_default": sum(map(len, sections.values())),
    }


def _sections(report: content.Report, context: dict) -> list[tuple[str, str]]:
    """Returns (id, heading) of the sections that have content, for the bar of contents."""
    sections = [("answers", "Runs" if context["several"] else "Overview")]
    sections += [(group["id"], group["heading"]) for group in context["charts"]]
    for name, heading in (
        ("map", "Map"),
        ("neighbors", "Neighbors"),
        ("confusion", "Confusion"),
    ):
        if context[name]:
            sections.append((name, heading))
    if report.settings:
        sections.append(("settings", "Settings"))
    if report.versions:
        sections.append(("versions", "Versions"))
    if report.notes:
        sections.append(("notes", "Notes"))
    return sections


def _policy(styles: list[str], scripts: list[str]) -> str:
    def sources(texts: list[str]) -> str:
        return " ".join(f"'sha256-{_sha256(text)}'" for text in texts)

    return (
        f"default-src 'none'; img-src data:; style-src {sources(styles)}; "
        f"script-src {sources(scripts)}; base-uri 'none'; form-action 'none'"
    )


def _sha256(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(data: object) -> Markup:
    """Returns JSON that cannot end the <script> around it."""
    escaped = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        escaped = escaped.replace(character, f"\\u{ord(character):04x}")
    return Markup(escaped)


def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )
    for name in ("short", "plain", "prose", "setting", "percent"):
        environment.filters[name] = getattr(text, name)
    environment.globals["swatch"] = pictures.swatch
    return environment
