"""Opens pages in the Chromium of the system, without a network, and records what goes wrong."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclasses.dataclass
class Opened:
    """A page, and what happened while it was open.

    Attributes:
      page: playwright's page.
      problems: errors and warnings of the console, violations of the policy among them.
      requests: addresses that the page asked for, its own excepted.
    """

    page: Any
    problems: list
    requests: list


def start() -> Iterator:
    """Yields a headless Chromium; the test is skipped where it or playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs Chromium: none of {', '.join(NAMES)} is on the path")
    # Chromium's sandbox does not work for root.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    args += ["--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


chromium = pytest.fixture(scope="module", name="chromium")(start)


@contextlib.contextmanager
def opened(browser, path: Path, width=1440, theme="light", **settings) -> Iterator[Opened]:
    """Opens a file in a fresh profile; every request for another address fails."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, **settings
    )
    page = context.new_page()
    record = Opened(page, [], [])

    def on_console(message) -> None:
        if message.type in ("error", "warning"):
            record.problems.append(message.text)

    def on_request(request) -> None:
        if request.url != path.as_uri() and not request.url.startswith("data:"):
            record.requests.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: record.problems.append(str(error)))
    page.on("request", on_request)
    page.route(lambda url: url.partition("#")[0] != path.as_uri(), lambda route: route.abort())
    page.goto(path.as_uri())
    try:
        yield record
    finally:
        context.close()
