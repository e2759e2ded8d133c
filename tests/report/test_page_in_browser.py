"""The page of a report in headless Chromium: policy, looks, keyboard, screen reader, paper."""

import dataclasses
import re

import browser
import fake_report
import looks
import numpy as np
import pytest
from browser import chromium  # noqa: F401, a fixture
from PIL import Image

from tf_simclr.report.page import page

pytestmark = [pytest.mark.long, pytest.mark.shared]

REPORTS = ("one_run", "three_runs", "running")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{name: path of a page}."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in REPORTS}
    for name, path in paths.items():
        path.write_text(page.render(getattr(fake_report, name)()), encoding="utf-8")
    return paths


@pytest.fixture
def open_page(chromium):  # noqa: F811
    """Function: (path, width, theme) -> context of a page that must have caused no problem."""
    import contextlib

    @contextlib.contextmanager
    def opened(path, *args, **settings):
        with browser.opened(chromium, path, *args, **settings) as record:
            yield record.page
            assert record.problems == [] and record.requests == []

    return opened


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_window(files, open_page, name, width):
    with open_page(files[name], width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_policy_forbids_what_the_page_does_not_need(chromium, files, tmp_path):  # noqa: F811
    """The page loads without problems; a foreign script, style, picture in it does not."""
    path = tmp_path / "changed.html"
    injected = (
        "<script>window.ran = 1</script><img src='http://example.invalid/x.png'>"
        "<p id='p' style='color: rgb(1, 2, 3)' onclick='window.ran = 2'>x</p>"
    )
    path.write_text(files["running"].read_text().replace("</main>", injected + "</main>"))
    with browser.opened(chromium, path) as record:
        record.page.click("#p")
        assert record.page.evaluate("window.ran") is None
        assert record.page.evaluate("getComputedStyle(p).color") != "rgb(1, 2, 3)"
        assert len([p for p in record.problems if "Content Security Policy" in p]) >= 4


@pytest.mark.parametrize("report, width, theme", looks.PICTURES)
def test_looks(files, open_page, report, width, theme):
    with open_page(files[report], width, theme) as page:
        if abs(page.evaluate(looks.FONT_WIDTH) - looks.ARIAL_WIDTH) > 1:
            pytest.skip("the reference pictures need Arial or Liberation Sans")
        taken = looks.take(page)
        reference = Image.open(looks.path(report, width, theme)).convert("RGB")
        distance = looks.distance(taken, reference)
        print(f"distance {distance:.1f}")
        assert distance < looks.BOUND, "see docs/testing.md for how to accept new looks"


@pytest.mark.parametrize(
    "damage",
    [
        "document.querySelector('.points').style.visibility = 'hidden'",
        "document.querySelectorAll('.plot').forEach((p) => { p.style.visibility = 'hidden'; })",
        "document.querySelector('.heat').style.visibility = 'hidden'",
        "document.querySelectorAll('use').forEach((u) => u.remove())",
        "document.querySelector('#settings').remove()",
        "document.querySelector('.verdicts').style.visibility = 'hidden'",
    ],
)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_damaged_looks_are_noticed(files, open_page, theme, damage):
    with open_page(files["one_run"], 820, theme) as page:
        if abs(page.evaluate(looks.FONT_WIDTH) - looks.ARIAL_WIDTH) > 1:
            pytest.skip("the reference pictures need Arial or Liberation Sans")
        page.wait_for_timeout(300)
        page.evaluate(damage)
        reference = Image.open(looks.path("one_run", 820, theme)).convert("RGB")
        assert looks.distance(looks.take(page), reference) > looks.BOUND


def test_the_theme_can_be_switched(files, open_page):
    with open_page(files["one_run"], 1440, "light") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        page.get_by_role("button", name="Switch to dark colors").click()
        assert page.evaluate(ground) == "rgb(20, 23, 27)"
        page.get_by_role("button", name="Switch to light colors").click()
        assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_the_keyboard_reaches_everything(files, open_page):
    with open_page(files["one_run"], 1440) as page:
        focused = []
        for _ in range(14):
            page.keyboard.press("Tab")
            focused.append(page.evaluate("document.activeElement.textContent.trim()"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", focused[-1]
        assert focused[0] == "Skip to the report"
        assert focused[1:10] == ["Overview", "Training", "Diagnostics", "Map", "Neighbors",
                                 "Confusion", "Settings", "Versions", "Notes"]  # fmt: skip
        assert focused[10] == "Dark"
        page.evaluate("document.querySelector('.skip').focus()")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def picture(page) -> np.ndarray:
    page.wait_for_timeout(150)
    return np.frombuffer(page.locator(".points").screenshot(), np.uint8)


def test_the_map_by_keyboard(files, open_page):
    with open_page(files["one_run"], 1440) as page:
        page.locator(".points").focus()
        seen = [picture(page)]
        for key in ("+", "+", "+", "ArrowLeft", "ArrowUp", "-", "0"):
            page.keyboard.press(key)
            seen.append(picture(page))
        for before, after in zip(seen, seen[1:], strict=False):
            assert not np.array_equal(before, after)
        assert re.fullmatch(r"test/\w+/\d+\.png, \w+", page.inner_text("#map-status"))
        assert page.locator(".tip").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator(".tip").is_visible()


def test_zooming_in_shows_fewer_points_and_then_pictures(files, open_page):
    with open_page(files["one_run"], 1440) as page:
        canvas = page.locator(".points")
        drawn = [int(canvas.get_attribute("data-drawn"))]
        assert drawn == [2000]
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6)
        top = page.evaluate("scrollY")
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(300)
        assert page.evaluate("scrollY") < top, "before a click the wheel scrolls the page"
        canvas.click(position={"x": 5, "y": 5})
        for _ in range(10):
            page.mouse.wheel(0, -100)
            page.wait_for_timeout(60)
        assert int(canvas.get_attribute("data-drawn")) < 2000


def test_search_finds_names_and_the_keyboard_walks_the_results(files, open_page):
    names = fake_report.embedding_map(2000).names
    with open_page(files["one_run"], 1440) as page:
        page.get_by_label("Search by name").fill("STAR/0")
        expected = [name for name in names if "star/0" in name]
        assert page.inner_text(".hits") == f"{len(expected)} images, the first 20 are listed"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.textContent")
        assert name in expected
        page.keyboard.press("Enter")
        assert page.inner_text("#map-status") == f"{name}, star"
        assert page.inner_text(".tip-name") == name
        page.get_by_label("Search by name").fill("no such name")
        assert page.inner_text(".hits") == "0 images" and page.locator(".results li").count() == 0


def test_the_image_under_the_pointer_is_named(files, open_page):
    view = fake_report.embedding_map(2000)
    with open_page(files["one_run"], 1440) as page:
        canvas = page.locator(".points")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        side = min(box["width"], box["height"]) - 44
        x, y = (view.coordinates[7] - 0.5) * side * np.array([1, -1])
        page.mouse.move(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
        shown = page.inner_text(".tip-name")
        place = view.coordinates[view.names.index(shown)]
        assert np.abs(place - view.coordinates[7]).max() * side < 3
        assert page.inner_text(".tip-group") == fake_report.CLASSES[view.groups[7]]


def test_a_group_is_highlighted(files, open_page):
    with open_page(files["one_run"], 1440) as page:
        before = picture(page)
        button = page.get_by_role("button", name="star")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        page.mouse.move(0, 0)
        assert not np.array_equal(picture(page), before)


def test_values_are_read_under_the_pointer(files, open_page):
    charts = fake_report.charts(fake_report.RUNS, 2000)
    chart = charts["Training"][0]
    with open_page(files["three_runs"], 1440) as page:
        figure = page.locator("figure.chart").first
        plot = figure.locator(".overlay")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        step = int(figure.locator(".at").inner_text().removeprefix("step ").replace(",", ""))
        index = list(chart.lines[0].x).index(step)
        shown = [float(t) for t in figure.locator(".now").all_inner_texts()]
        assert shown == pytest.approx([line.y[index] for line in chart.lines], rel=1e-3)
        page.mouse.move(0, 0)
        assert figure.locator(".at").inner_text() == "last"


def test_a_screen_reader_finds_names_for_everything(files, open_page):
    """Chromium computes the names, as for a screen reader."""
    with open_page(files["one_run"], 1440) as page:
        session = page.context.new_cdp_session(page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    nodes = [node for node in nodes if not node.get("ignored")]
    named = {"button", "image", "img", "link", "heading", "application", "searchbox", "region",
             "navigation", "figure"}  # fmt: skip
    roles = set()
    for node in nodes:
        role = node["role"]["value"]
        roles.add(role)
        if role in named:
            assert node.get("name", {}).get("value", "").strip(), node
    assert {"button", "image", "link", "heading", "searchbox", "navigation", "table"} <= roles


def test_paper(files, open_page):
    """In the dark theme, paper is white; all headings are there, and no button."""
    with open_page(files["one_run"], 1440, "dark") as page:
        document = page.pdf(format="A4", outline=True, tagged=True)
        titles = re.findall(rb"/Title \(((?:[^()\\]|\\.)*)\)", document)
        titles = {title.decode("latin-1").replace("\\", "") for title in titles}
        headings = page.locator("h2, h3").all_inner_texts()
        missing = {
            heading
            for heading in headings
            if heading.replace(" ", "") not in {title.replace(" ", "") for title in titles}
        } - {"Query"}
        missing = {h for h in missing if "train/" not in h}
        folded = set(page.locator("details h3").all_inner_texts())
        assert not missing - folded, missing
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not page.locator("button.theme").is_visible()
        assert not page.locator("#map-search").is_visible()


def test_the_page_without_scripts(files, open_page):
    with open_page(files["one_run"], 1440, java_script_enabled=False) as page:
        assert page.get_by_text("The map needs JavaScript").is_visible()
        assert page.locator(".groups li").count() == len(fake_report.CLASSES)
        assert page.locator(".thumbs .thumb").first.is_visible()
        assert not page.locator("button.theme").is_visible()


def test_hostile_names_run_nothing(open_page, tmp_path):
    from test_page import HOSTILE, hostile

    for i, value in enumerate(HOSTILE):
        path = tmp_path / f"{i}.html"
        report = hostile(value, fake_report.one_run(num_images=40))
        path.write_text(page.render(report), encoding="utf-8")
        with open_page(path) as opened:
            opened.on("dialog", lambda dialog: pytest.fail(dialog.message))
            opened.get_by_label("Search by name").fill("a")
            opened.wait_for_timeout(50)


def test_ten_thousand_points(open_page, tmp_path):
    report = fake_report.one_run(num_images=40)
    view = fake_report.embedding_map(10_000)
    images = dataclasses.replace(report.images, map=view)
    path = tmp_path / "large.html"
    path.write_text(page.render(dataclasses.replace(report, images=images)), encoding="utf-8")
    with open_page(path) as opened:
        canvas = opened.locator(".points")
        assert canvas.get_attribute("data-drawn") == "10000"
        times = []
        canvas.focus()
        for _ in range(10):
            opened.keyboard.press("ArrowLeft")
            opened.wait_for_timeout(80)
            times.append(float(canvas.get_attribute("data-draw-milliseconds")))
        loading = opened.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        print(f"{path.stat().st_size:,} bytes, loaded in {loading:.0f} ms, "
              f"drawn in {np.median(times):.1f} ms")  # fmt: skip
