"""Makes texts from data fit to be shown: no invisible characters, bounded lengths, short numbers.

Class names, file names and settings are untrusted. Escaping for HTML is not done here: the template
engine escapes everything.
"""

import math
import re

from markupsafe import Markup, escape

ELLIPSIS = "…"
# The longest text that a page holds, for the tooltip of a shortened text.
MAX_LENGTH = 10_000
# Control characters, line separators, halves of surrogate pairs (from undecodable file names),
# characters that XML forbids, and invisible characters, some of which reorder the text around them.
_INVISIBLE = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)

# In escaped text, so that what it matches needs no escaping.
_FLAG = re.compile(r"(^|[\s>(])(--[a-z][a-z0-9_]{1,30}(?:=[\w.]{1,20}\b)?)")


def visible(text: str) -> str:
    """Returns the text with invisible characters written as escapes, such as \\x1b or \\u202e."""
    if text.isprintable():
        return text
    return _INVISIBLE.sub(_escape, re.sub(r"[\t\r\n]+", " ", text))


def _escape(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def shorten(text: str, length: int) -> str:
    """Returns the text, with an ellipsis for its middle if it is longer than `length`.

    The end stays, because file names often differ there.
    """
    if len(text) <= length:
        return text
    tail = length // 3
    return text[: length - tail - 1] + ELLIPSIS + text[-tail:]


def short(text: object, length: int = 80) -> Markup:
    """Returns HTML of an untrusted text: isolated from the direction of the text around it.

    Args:
      text: any text.
      length: the most characters to show; the full text is then in the tooltip.
    """
    full = visible(shorten(str(text), MAX_LENGTH))
    shown = shorten(full, length)
    if shown == full:
        return Markup("<bdi>{}</bdi>").format(full)
    return Markup('<bdi title="{}">{}</bdi>').format(full, shown)


def prose(text: object, length: int = 600) -> Markup:
    """Returns HTML of an untrusted sentence, with flags such as --temperature as code."""
    markup = short(text, length)
    if "title=" in markup[:12]:
        return markup
    return Markup(_FLAG.sub(r'\1<code class="flag">\2</code>', str(markup)))


def setting(name: str) -> Markup:
    """Returns HTML of an untrusted name of a setting, which may break after an underscore."""
    shown = escape(shorten(visible(shorten(name, MAX_LENGTH)), 60))
    return Markup("<bdi>{}</bdi>").format(Markup(str(shown).replace("_", "_<wbr>")))


def plain(text: object, length: int) -> str:
    """Returns an untrusted text for an attribute or a title: visible characters, shortened."""
    return shorten(visible(shorten(str(text), MAX_LENGTH)), length)


def number(value: float) -> str:
    """Returns a number with four significant digits: 12,345, 0.1235, 1.235e-7."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-4:
        return f"{value:.3e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Returns a share in [0, 1] as a percentage, such as "93.2%"."""
    return f"{100 * share:.1f}%"
