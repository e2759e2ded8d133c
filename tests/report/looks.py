"""Reference pictures of the report: their names, how they are taken, how they are compared.

`python tests/report/looks.py` takes them anew after a deliberate change of the looks.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "report"
PICTURES = [
    (report, width, theme)
    for report, widths in (("one_run", (390, 820, 1440)), ("three_runs", (390, 1440)))
    for width in widths
    for theme in ("light", "dark")
] + [("running", 820, "light")]
# Fonts differ between machines, and text of another width breaks at other places.
FONT_WIDTH = """() => {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "16px " + getComputedStyle(document.body).fontFamily;
  return pen.measureText("Hamburgefonstiv 0123456789").width;
}"""
ARIAL_WIDTH = 214.375
_SCALE = 4
_BLOCK = 24
# Of 255. The same fonts give 0, a section that is missing gives 18 to 109.
BOUND = 6.0


def take(page) -> Image.Image:
    """Takes a picture of the whole page at a quarter of its size."""
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    size = (picture.width // _SCALE, picture.height // _SCALE)
    return picture.convert("RGB").resize(size, Image.Resampling.BOX)


def distance(a: Image.Image, b: Image.Image) -> float:
    """Returns the mean absolute difference of the 24 x 24 pixels that differ most, of 255.

    Pictures of another size are infinitely far, but for two rows: rounding may move a line.
    """
    if a.width != b.width or abs(a.height - b.height) > 2:
        return float("inf")
    height = min(a.height, b.height)
    x, y = (np.asarray(p, np.float64)[:height] for p in (a, b))
    far = np.abs(x - y).mean(2)
    rows, columns = (-(-n // _BLOCK) for n in far.shape)
    blocks = [
        far[r * _BLOCK : (r + 1) * _BLOCK, c * _BLOCK : (c + 1) * _BLOCK].mean()
        for r in range(rows)
        for c in range(columns)
    ]
    return float(max(blocks))


def path(report: str, width: int, theme: str) -> Path:
    """Returns the path of a reference picture."""
    return FOLDER / f"{report}-{width}-{theme}.webp"


def _rewrite() -> None:
    import sys
    import tempfile

    sys.path[:0] = [str(FOLDER.parents[2]), str(Path(__file__).parent)]
    import browser
    import fake_report

    from tf_simclr.report.page import page

    FOLDER.mkdir(parents=True, exist_ok=True)
    start = contextlib.contextmanager(browser.start)
    with start() as chromium, tempfile.TemporaryDirectory() as folder:
        for report, width, theme in PICTURES:
            file = Path(folder) / f"{report}.html"
            file.write_text(page.render(getattr(fake_report, report)()), encoding="utf-8")
            with browser.opened(chromium, file, width, theme) as opened:
                measured = opened.page.evaluate(FONT_WIDTH)
                assert abs(measured - ARIAL_WIDTH) < 1, "needs Arial or Liberation Sans"
                take(opened.page).save(path(report, width, theme), lossless=True, method=6)
    print(f"wrote {len(PICTURES)} pictures to {FOLDER}")


if __name__ == "__main__":
    _rewrite()
