"""The page of a report, read as text: what it holds, its policy, untrusted texts, its colors."""

import base64
import dataclasses
import hashlib
import html.parser
import importlib.resources
import itertools
import json
import re

import fake_report
import numpy as np
import pytest

from tf_simclr.report import content
from tf_simclr.report.page import lines, page, pictures, plot, svg, text

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "</style><b>",
    "{{7*7}}",
    "{% raw %}",
    "$\\frac{",
    "javascript:alert(1)",
    "\u202egpj.exe",
    "\x00\x1b[31m\x7f",
    "bad\udcffname",
    "\u2028</title>",
    "' onload='alert(1)",
)
VOID = {"meta", "img", "input", "br", "link", "wbr"}


class Reader(html.parser.HTMLParser):
    """Reads a page strictly: every tag that is opened is closed."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.texts, self.wrong = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open and not self.wrong, (self.open, self.wrong)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *tags) -> str:
        return " ".join(data for tag, data in self.texts if not tags or tag in tags)


@pytest.fixture(scope="module")
def source():
    return page.render(fake_report.one_run(num_images=200))


@pytest.fixture(scope="module")
def read(source):
    return Reader(source)


def headings(reader) -> list[int]:
    return [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]


@pytest.mark.parametrize("report", ["one_run", "three_runs", "running"])
def test_the_page_is_well_formed(report):
    make = getattr(fake_report, report)
    reader = Reader(page.render(make(200) if report == "one_run" else make()))
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = set()
    for _, attributes in reader.elements:
        used |= set(attributes.get("aria-labelledby", "").split())
        used |= {attributes.get("for")} - {None}
        href = attributes.get("href", "")
        used |= {href[1:]} if href.startswith("#") else set()
        used |= set(re.findall(r"url\(#(.*?)\)", attributes.get("clip-path", "")))
    assert used <= set(ids)
    levels = headings(reader)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_the_answers_come_first(source):
    places = [source.index(f'<section id="{name}"') for name in
              ("answers", "charts-0", "charts-1", "map", "neighbors", "confusion", "settings",
               "versions", "notes")]  # fmt: skip
    assert places == sorted(places)
    body = source[source.index("<main") :]
    assert body.index("Not collapsed") < body.index("93.2%") < body.index("<figure")


def test_the_policy_names_exactly_what_is_in_the_page(source, read):
    policy = read.all("meta")[1]["content"]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'; ")
    assert "base-uri 'none'; form-action 'none'" in policy
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        blocks = [
            block
            for kind, block in re.findall(f"<{tag}([^>]*)>(.*?)</{tag}>", source, re.S)
            if "json" not in kind
        ]
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"
            for block in blocks
        ]
        assert hashes and f"{name} {' '.join(hashes)};" in policy
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert directives["img-src"] == ["data:"]


def test_nothing_needs_an_address_or_an_inline_style(read):
    for tag, attributes in read.elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "data", "srcset", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")), (tag, value)


def hostile(value: str, report: content.Report) -> content.Report:
    """Returns the report with the value in the place of each text."""

    def replace(item, name=""):
        if dataclasses.is_dataclass(item):
            changes = {
                field.name: replace(getattr(item, field.name), field.name)
                for field in dataclasses.fields(item)
            }
            return dataclasses.replace(item, **changes)
        if isinstance(item, str):
            return item if name in ("id", "media_type", "level") else value
        if isinstance(item, tuple):
            return tuple(replace(part, name) for part in item)
        if isinstance(item, dict):
            return {replace(key): replace(part) for key, part in item.items()}
        return item

    return replace(report)


@pytest.mark.parametrize("value", HOSTILE)
def test_untrusted_texts_stay_texts(value):
    safe = fake_report.one_run(num_images=40)
    # Headings are keys: two equal ones would be one.
    safe = dataclasses.replace(safe, charts={"Training": safe.charts["Training"]})
    dangerous = hostile(value, safe)
    rendered = page.render(dangerous)
    rendered.encode("utf-8")
    reader = Reader(rendered)
    harmless = Reader(page.render(hostile("harmless", safe)))
    # Setting names may break after underscores.
    tags, expected = (
        [tag for tag, _ in each.elements if tag != "wbr"] for each in (reader, harmless)
    )
    assert tags == expected
    attributes = {name for _, each in reader.elements for name in each}
    assert attributes <= {name for _, each in harmless.elements for name in each} | {"title"}
    assert text.visible(value) in reader.text("bdi")
    assert not re.search("[\u202e\x00\x1b\u2028\udcff]", rendered)
    data = next(data for tag, data in reader.texts if tag == "script" and data.startswith("{"))
    assert json.loads(data)["map"]["names"][0] == text.visible(value)
    assert not re.search("[<>&]", data)


def test_long_names_are_shortened_and_kept_in_the_tooltip():
    name = "n" * 6000 + "END" + "m" * 3997
    report = fake_report.one_run(num_images=40)
    usual, long = page.render(report), page.render(dataclasses.replace(report, title=name))
    shown = re.search(r"<h1><bdi title=\"(\w+)\">(.*?)</bdi>", long)
    assert shown[1] == name and len(shown[2]) == 120 and text.ELLIPSIS in shown[2]
    endless = page.render(dataclasses.replace(report, title="x" * 10**6))
    assert len(endless) - len(usual) < 40_000


def test_visible_escapes_what_cannot_be_seen():
    assert text.visible("a\u202eb\x1b\udc80\u200b") == "a\\u202eb\\x1b\\udc80\\u200b"
    assert text.visible("tabs\tand\nlines") == "tabs and lines"
    for plain in ("Käse 猫 🐈", "עברית", "naïve–dash"):
        assert text.visible(plain) == plain


def test_flags_in_sentences_are_code_and_still_escaped():
    markup = text.prose("Lower --temperature=0.5, not <b>--x</b>")
    assert '<code class="flag">--temperature=0.5</code>' in markup
    assert "<b>" not in markup


@pytest.mark.parametrize(
    "value, expected",
    [(0, "0"), (12345.6, "12,346"), (0.12345, "0.1235"), (3.10, "3.1"), (1.5e-7, "1.500e-7"),
     (-2.5, "-2.5"), (float("nan"), "not finite"), (100, "100"), (2e9, "2.000e9")],
)  # fmt: skip
def test_numbers_have_four_digits(value, expected):
    assert text.number(value) == expected


def test_missing_parts_leave_no_heading():
    report = content.Report("runs/empty", "now", (), {}, None, (), ())
    reader = Reader(page.render(report))
    assert headings(reader) == [1, 2]
    assert len(reader.all("a")) == 2  # the skip link, and the answers
    without = dataclasses.replace(
        fake_report.one_run(40), images=content.Images("ckpt", "data", None, None, None)
    )
    read = Reader(page.render(without))
    assert not {"map", "neighbors", "confusion"} & {a.get("id") for _, a in read.elements}
    assert "canvas" not in [tag for tag, _ in read.elements]


def test_a_report_of_ten_thousand_images_is_below_the_limit():
    report = fake_report.one_run(num_images=40)
    count = 10_000
    rng = np.random.default_rng(0)
    sprite = content.Sprite(rng.bytes(1_300_000), "image/webp", 32, 100, count)
    whole = content.EmbeddingMap(
        "t-SNE",
        rng.uniform(size=(count, 2)).astype(np.float32),
        rng.integers(-1, 10, count),
        fake_report.CLASSES,
        "class",
        tuple(f"test/{i % 10}/image_{i:06d}.png" for i in range(count)),
        sprite,
    )
    images = dataclasses.replace(report.images, map=whole)
    size = len(page.render(dataclasses.replace(report, images=images)).encode())
    assert size < page.SIZE_LIMIT
    decoded = pictures.map_data(whole)
    positions = np.frombuffer(base64.b64decode(decoded["positions"]), "<u2").reshape(-1, 2)
    np.testing.assert_allclose(positions / 65535, whole.coordinates, atol=1 / 65535)
    groups = np.frombuffer(base64.b64decode(decoded["groups"]), "<u2").astype(int)
    np.testing.assert_array_equal(np.where(groups == 65535, -1, groups), whole.groups)


def test_a_sprite_must_be_a_picture():
    sprite = content.Sprite(b"", 'text/html"><script>', 32, 1, 1)
    with pytest.raises(ValueError, match="must be WebP, PNG or JPEG"):
        pictures.data_url(sprite)


def test_the_neighbors_need_no_script_and_no_color(read, source):
    near = fake_report.neighbors()
    thumbs = [a for a in read.all("svg") if a.get("class") == "thumb"]
    assert len(thumbs) == near.nearest.size + len(near.queries)
    assert all(a["role"] == "img" and a["aria-label"] for a in thumbs)
    assert sum(", same class" in a["aria-label"] for a in thumbs) == near.hits.sum()
    items = [a.get("class") for a in read.all("li")]
    assert items.count("hit") == near.hits.sum()
    assert items.count("miss") == (~near.hits).sum()
    sprite = near.thumbnails
    box = re.search(r'viewBox="([^"]*)" role="img" aria-label="train/00007', source)[1]
    left, top, width, height = map(float, box.split())
    assert 0 < left - 7 % sprite.columns * sprite.side < 1
    assert 0 < top - 7 // sprite.columns * sprite.side < 1
    assert width == height == sprite.side - 1


def test_the_heat_map_is_a_table_with_all_counts(read):
    counts = fake_report.confusion().counts
    cells = [a["title"] for a in read.all("td") if a.get("title")]
    numbers = [int(re.search(r": ([\d,]+) \(", cell)[1].replace(",", "")) for cell in cells]
    np.testing.assert_array_equal(np.reshape(numbers, counts.shape), counts)
    accuracy = np.trace(counts) / counts.sum()
    assert f"{100 * accuracy:.1f}%" in read.text("strong")


def test_a_sentence_about_confusions_begins_with_a_capital_letter():
    images = dataclasses.replace(
        fake_report.images(40),
        confusion=content.Confusion("supervised head", ("a", "b"), np.eye(2, dtype=int)),
    )
    source = page.render(dataclasses.replace(fake_report.one_run(40), images=images))
    assert '<p class="lead"><bdi>Supervised head</bdi>, 2 images' in source


def test_many_classes_have_lists_and_no_heat_map():
    confusion = fake_report.confusion(num_classes=200)
    view = pictures.confusion_view(confusion)
    assert view["rows"] is None and len(view["top"]) == 20
    wrong = confusion.counts - np.diag(np.diag(confusion.counts))
    assert [pair["count"] for pair in view["top"]] == sorted(wrong.ravel(), reverse=True)[:20]
    shares = [item["share"] for item in view["worst"] + view["others"]]
    assert shares == sorted(shares)
    np.testing.assert_allclose(
        shares, np.sort(np.diag(confusion.counts) / confusion.counts.sum(1)), atol=1e-12
    )


def test_a_class_without_images_has_no_accuracy():
    view = pictures.confusion_view(
        content.Confusion("head", ("a", "b"), np.array([[3, 1], [0, 0]]))
    )
    assert [item["name"] for item in view["worst"]] == ["a"]
    empty = pictures.confusion_view(content.Confusion("head", ("a",), np.zeros((1, 1), int)))
    assert empty["accuracy"] is None and empty["worst"] == []


def test_settings_that_differ_come_first_and_defaults_are_folded():
    report = fake_report.three_runs()
    source = page.render(report)
    table, rest = source.split('<details class="rest">')
    shown = re.findall(r'<th scope="row"><code><bdi>(\w+)', table.replace("<wbr>", ""))
    assert shown[:3] == ["temperature", "train_batch_size", "color_jitter_strength"]
    assert "train_steps" in shown and "momentum" not in shown
    assert "<bdi>momentum" in rest


# Charts


def line(y, name="", x=None):
    y = np.asarray(y, float)
    return content.Line(name, np.arange(1, len(y) + 1) if x is None else np.asarray(x, float), y)


def a_chart(*of, **more):
    return content.Chart("test", "Title", "", "step", "nats", of, **more)


def test_a_chart_is_small_and_has_no_style():
    rng = np.random.default_rng(0)
    drawn = svg.chart(a_chart(line(rng.normal(size=100_000)), line(rng.normal(size=100_000))))
    assert len(drawn) < 60_000
    for word in ("style", "#0000", "xlink", "metadata", "<!--"):
        assert word not in drawn
    assert "var(--series-1)" in drawn and "var(--series-2)" in drawn


def test_charts_do_not_depend_on_the_settings_of_the_user():
    import matplotlib

    chart = a_chart(line([3, 2, 1]))
    expected = svg.chart(chart)
    with matplotlib.rc_context({"axes.grid": False, "lines.linewidth": 9, "text.usetex": True}):
        assert svg.chart(chart) == expected


def test_thinning_keeps_the_extremes():
    rng = np.random.default_rng(0)
    x, y = np.arange(1, 50_001.0), rng.normal(size=50_000)
    y[31_337] = 40
    for log_x in (False, True):
        few_x, few_y = lines.envelope(x, y, log_x=log_x)
        assert len(few_x) < 1500 and np.all(np.diff(few_x) > 0)
        assert few_y.max() == 40 and few_y.min() == y.min()
        assert (few_x[0], few_x[-1]) == (1, 50_000)
        np.testing.assert_array_equal(y[few_x.astype(int) - 1], few_y)


def test_lines_differ_in_color_and_dashes():
    pairs = [plot.series(i) for i in range(32)]
    assert len(set(pairs)) == 32
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(pairs[:8]))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "y", [[], [np.nan], [5], [0, 0, 0], [1e308, -1e308], [np.inf, 1, 2], [7, 7, 7], [-3, -2],
          [1e-300, 1e300], [1e-30, 2e-30]],
)  # fmt: skip
def test_unusual_values_are_drawn_or_counted(y, log):
    chart = a_chart(line(y), reference=("chance", 0.0), log_y=log, log_x=log)
    Reader(svg.chart(chart) + lines.table(chart))
    values = np.asarray(y, float)
    good = np.isfinite(values) & (np.abs(values) < 1e300) & ((values > 0) | (not log))
    assert lines.num_left_out(chart) == len(y) - good.sum()


def test_the_geometry_leads_back_to_the_values():
    """The script reads values by it, so it must agree with the drawing."""
    chart = a_chart(line([10, 1, 0.1], x=[1, 10, 100]), log_x=True, log_y=True)
    drawn = svg.chart(chart)
    left, top, right, bottom = map(float, re.search('data-box="(.*?)"', drawn)[1].split())
    x0, x1 = np.log(list(map(float, re.search('data-x="(.*?)"', drawn)[1].split())))
    y0, y1 = np.log(list(map(float, re.search('data-y="(.*?)"', drawn)[1].split())))
    path = re.search(r'<path d="([^"]*)"[^>]*var\(--series-1\)', drawn)[1]
    points = np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2)
    x = np.exp(x0 + (points[:, 0] - left) / (right - left) * (x1 - x0))
    y = np.exp(y0 + (bottom - points[:, 1]) / (bottom - top) * (y1 - y0))
    np.testing.assert_allclose(x[[0, -1]], [1, 100], rtol=1e-3)
    np.testing.assert_allclose(y[[0, -1]], [10, 0.1], rtol=1e-3)


def test_the_table_has_about_twenty_rows():
    table = lines.table(a_chart(line(np.arange(5000))))
    assert table.count("<tr>") == 21
    assert lines.table(a_chart(line([]))) == ""


@pytest.mark.parametrize(
    "ticks, labels",
    [([0, 500, 1000], ["0", "500", "1,000"]), ([0, 0.25, 0.5], ["0", "0.25", "0.50"]),
     ([0, 200_000], ["0", "200k"]), ([0, 2.5e6], ["0", "2.5M"]), ([1e-5, 1e-3], ["1e−5", "0.001"]),
     ([-2, -1, 0], ["−2", "−1", "0"]), ([0.1, 1, 10, 100], ["0.1", "1", "10", "100"]),
     ([], [])],
)  # fmt: skip
def test_tick_labels(ticks, labels):
    assert lines.tick_labels(np.array(ticks, float)) == labels


# Colors


@pytest.fixture(scope="module")
def colors():
    """{theme: {variable: color}} of page.css."""
    css = (importlib.resources.files("tf_simclr.report.page") / "page.css").read_text()
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    return {theme: {p[0]: p[1 + i] for p in pairs} for i, theme in enumerate(("light", "dark"))}


def linear(color) -> np.ndarray:
    """sRGB to linear light (IEC 61966-2-1)."""
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a, b) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(colors, theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    of = colors[theme]
    for name in ("text", "muted", "link"):
        for ground in ("page", "raised"):
            assert contrast(of[name], of[ground]) >= 4.5, name
    marks = [f"series-{i}" for i in range(1, plot.NUM_SERIES + 1)]
    for name in (*marks, "good", "warning", "bad"):
        assert contrast(of[name], of["page"]) >= 3, name
    for kind, i in itertools.product(("right", "wrong"), range(8)):
        assert contrast(of[f"{kind}-{i}"], of[f"{kind}-{i}-text"]) >= 4.5, (kind, i)


# Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(light) -> np.ndarray:
    """CIELAB of linear sRGB, white point D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(to_xyz) @ np.clip(light, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_colors_differ_for_the_color_blind(colors, theme, vision):
    """A distance of 2.3 is just noticeable; red and green lines would have 2 to 5."""
    seen = [
        lab(np.array(VISION[vision]) @ linear(colors[theme][f"series-{i}"]))
        for i in range(1, plot.NUM_SERIES + 1)
    ]
    distances = {
        (i, j): np.linalg.norm(seen[i] - seen[j])
        for i, j in itertools.combinations(range(len(seen)), 2)
    }
    assert min(distances.values()) > 8
    assert min(d for (_, j), d in distances.items() if j < 4) > 14
