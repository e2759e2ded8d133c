"""Formats tables for a terminal, of texts that come from files and are untrusted."""

import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "
MIN_NAME, MIN_LAST = 12, 24  # columns of the terminal


def printable(text: str) -> str:
    r"""Replaces characters that a terminal would obey by escapes such as \x1b.

    These are control characters, line breaks, marks of the direction of text, and bytes that are
    not UTF-8.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp")
        else char
        for char in text
    )


def width_of(text: str) -> int:
    """Returns the number of columns that a text takes: Chinese characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def shorten(text: str, width: int) -> str:
    """Replaces the middle of a long text by an ellipsis."""
    if width_of(text) <= width:
        return text
    left, right = "", ""
    for i in range(len(text)):
        longer = (
            (left + text[len(left)], right) if i % 2 == 0 else (left, text[-1 - len(right)] + right)
        )
        if width_of("".join(longer)) > width - 1:
            break
        left, right = longer
    return f"{left}…{right}"


def format_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    last_title: str,
    last: Sequence[str],
    *,
    width: int | None,
) -> str:
    """Formats a table. Cells with a digit first are aligned on the right, others on the left.

    If the table is too wide, the first column is shortened. The last column is wrapped. If too
    little space is left for it, it goes below its row.

    Args:
      titles: titles of the columns except the last.
      rows: their cells.
      last_title: title of the last column.
      last: cells of the last column, which may be long. The column is left out if all are empty.
      width: columns of the terminal; None for no limit.
    """
    columns = list(zip(titles, *rows, strict=True))
    widths = [max(map(width_of, column)) for column in columns]
    if width is not None:
        excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
        widths[0] = max(min(widths[0], MIN_NAME), widths[0] - max(0, excess))
    used = sum(widths) + len(GAP) * len(widths)
    left = None if width is None else width - used
    below = left is not None and left < MIN_LAST
    has_last = any(last)

    lines = []
    for number, (cells, extra) in enumerate(zip([titles, *rows], [last_title, *last], strict=True)):
        padded = [
            _pad(shorten(cell, w), w, is_number=_is_number(column))
            for cell, w, column in zip(cells, widths, columns, strict=True)
        ]
        line = GAP.join(padded)
        if not has_last:
            lines.append(line.rstrip())
        elif below:
            lines.append(line.rstrip())
            if extra and number:
                indent = " " * 4
                assert width is not None
                wrapped = _wrap(f"{last_title}: {extra}", max(width, 20) - len(indent))
                lines += [indent + text for text in wrapped]
        else:
            first, *more = _wrap(extra, left or 10**6) or [""]
            lines.append(f"{line}{GAP}{first}".rstrip())
            lines += [" " * used + text for text in more]
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    """Wraps a list after its commas, so that no setting is torn from its value."""
    items = text.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(items, width)]


def _is_number(column: Sequence[str]) -> bool:
    """Returns whether the cells below the title are numbers."""
    cells = [cell for cell in column[1:] if cell]
    return bool(cells) and all(set(cell) <= set("0123456789.,/%-+e") for cell in cells)


def _pad(text: str, width: int, *, is_number: bool) -> str:
    fill = " " * max(0, width - width_of(text))
    return fill + text if is_number else text + fill
