"""Recognizes image formats that cannot be read, to name them in a message."""

import re
from collections.abc import Mapping

# What a user can do about them.
WAY_OUT = "convert them to JPEG, PNG or TIFF to use them"

# Camera raw files that contain a TIFF. Pillow would decode only its thumbnail.
_RAW_SUFFIXES = frozenset(
    {
        ".3fr",
        ".arw",
        ".cr2",
        ".dcr",
        ".dng",
        ".erf",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".nef",
        ".nrw",
        ".pef",
        ".sr2",
        ".srf",
        ".srw",
    }
)
RAW = "camera raw"
_HEIC, _AVIF, _JPEG_2000 = "HEIC", "AVIF", "JPEG 2000"
_ISO_BRANDS = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
        _HEIC,
    ),
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    b"crx ": RAW,
}
_BEGINNINGS = (
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG_2000),
    (b"\xff\x4f\xff\x51", _JPEG_2000),
    (b"\0\0\1\0", "ICO"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"gimp xcf", "XCF"),
    (b"SIMPLE  =", "FITS"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"IIU\0", RAW),
    (b"FOVb", RAW),
    (b"\0MRM", RAW),
)
_NETPBM = re.compile(rb"P[1-7]\s+(#|\d)|P7\nWIDTH")
_SVG_BEGINNINGS = (b"<svg", b"<?xml", b"<!--", b"<!doctype svg")
NAMES = frozenset(
    [RAW, _HEIC, _AVIF, _JPEG_2000, "SVG", "PNM", "DICOM"] + [name for _, name in _BEGINNINGS]
)


def name_unsupported_format(head: bytes) -> str | None:
    """Returns the image format of a file that could not be opened; None if it is not an image.

    Args:
      head: the first bytes of the file, a few hundred or more.

    Returns:
      One of NAMES, or None.
    """
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12])
    if head[128:132] == b"DICM":
        return "DICOM"
    if _NETPBM.match(head):
        return "PNM"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_SVG_BEGINNINGS) and b"<svg" in text and b"<html" not in text:
        return "SVG"
    return next((name for start, name in _BEGINNINGS if head.startswith(start)), None)


def is_raw(head: bytes, tags: Mapping[int, object], suffix: str) -> bool:
    """Returns whether a TIFF is a camera raw file.

    Args:
      head: the first bytes of the file.
      tags: {number: value} of its first directory.
      suffix: suffix of the file's name, such as ".nef"; "" if there is no name.
    """
    reduced = tags.get(254, 0)  # NewSubfileType; bit 0 marks a thumbnail
    is_thumbnail = isinstance(reduced, int) and reduced & 1 and 330 in tags  # SubIFDs
    return (
        head[8:10] == b"CR"  # Canon's CR2
        or 50706 in tags  # DNGVersion
        or bool(is_thumbnail)
        or suffix.lower() in _RAW_SUFFIXES
    )
