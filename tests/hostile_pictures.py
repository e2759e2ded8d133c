"""A folder of pictures as people have them: all formats, broken files, and other files."""

import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, PngImagePlugin, TiffImagePlugin

RED, BLUE = (200, 30, 40), (20, 60, 220)


def halves(width=24, height=16) -> Image.Image:
    """Draws red on the left and blue on the right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return Image.fromarray(pixels)


def saved(image: Image.Image, **settings) -> bytes:
    content = io.BytesIO()
    image.save(content, **settings)
    return content.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(halves(), format="JPEG", quality=95, exif=exif)


def gray_16_bits() -> bytes:
    """Draws two gray levels that clipping to 8 bits would merge."""
    return tf.io.encode_png(two_levels()[..., None]).numpy()


def two_levels() -> np.ndarray:
    levels = np.full((16, 24), 0x2000, np.uint16)
    levels[:, 12:] = 0xC000
    return levels


def noise(side=64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def claims_to_be(width: int, height: int) -> bytes:
    """Makes a PNG whose header claims a size that its few pixels do not have."""
    whole = bytearray(saved(halves(), format="PNG"))
    whole[16:24] = struct.pack(">II", width, height)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    return bytes(whole)


def tagged(**tags: int) -> bytes:
    """Makes a TIFF of `halves` with further tags, given by number as in t254=1."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[int(name[1:])] = value
    return saved(halves(), format="TIFF", tiffinfo=info)


def with_text(size: int) -> bytes:
    """Makes a PNG with a compressed comment of so many bytes."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * size, zip=True)
    return saved(halves(), format="PNG", pnginfo=text)


def used() -> dict[str, bytes]:
    """Makes files that show `halves` in all formats (16-bit ones in two grays)."""
    image, transparent = halves(), halves().convert("RGBA")
    transparent.putalpha(255)
    words = "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000"
    found = {f"plain.{w.lower()}": saved(image, format=w) for w in words}
    palette = image.quantize(4)
    return found | {
        "SUFFIX.JPG": found["plain.jpeg"],
        "no_suffix": found["plain.png"],
        "a_png_called.jpg": found["plain.png"],
        "a_webp_called.jpeg": found["plain.webp"],
        "a_jpeg_called.txt": found["plain.jpeg"],
        "progressive.jpg": saved(image, format="JPEG", progressive=True),
        "cmyk.jpg": saved(image.convert("CMYK"), format="JPEG", quality=95),
        **{f"turned_{n}.jpg": turned(n) for n in (2, 3, 6, 8)},
        "lzw.tiff": saved(image, format="TIFF", compression="tiff_lzw"),
        "pages.tiff": saved(image, format="TIFF", save_all=True, append_images=[noise(24)]),
        "turned_6.tiff": tagged(t274=6),
        "gray_16.tiff": saved(Image.fromarray(two_levels()), format="TIFF"),
        "gray_16_turned_3.tiff": saved(
            Image.fromarray(two_levels()[:, ::-1]), format="TIFF", tiffinfo={274: 3}
        ),
        "text.png": with_text(2**21),
        "profile.png": saved(image, format="PNG", icc_profile=bytes(2**21)),
        "longer_than_8000.png": saved(halves(10_000, 10), format="PNG"),
        "alpha.png": saved(transparent, format="PNG"),
        "palette.png": saved(palette, format="PNG"),
        "palette.bmp": saved(palette, format="BMP"),
        "gray_16.png": gray_16_bits(),
        "rgb_16.png": tf.io.encode_png(np.array(image).astype(np.uint16) * 257).numpy(),
        "alpha.webp": saved(transparent, format="WEBP", lossless=True),
        "moving.gif": saved(image, format="GIF", save_all=True, append_images=[noise(24)]),
        "moving.webp": saved(
            image, format="WEBP", save_all=True, lossless=True, append_images=[halves().rotate(180)]
        ),
        "smallest.png": saved(halves(8, 8), format="PNG"),
        "longest.png": saved(halves(8000, 8), format="PNG"),
        "with a space.png": found["plain.png"],
        "grüße_日本.png": found["plain.png"],
        "two\nlines.png": found["plain.png"],
        "x" * 200 + ".png": found["plain.png"],
    }


def left_out() -> dict[str, tuple[bytes, str]]:
    """Makes files that an inspection refuses, with the reason."""
    none, small, large = "not a picture", "smaller than 8 pixels", "larger than 256 megapixels"
    raw = "camera raw"
    return {
        "text.jpg": (b"This is no picture.", none),
        "empty.jpg": (b"", none),
        "empty.png": (b"", none),
        "bytes.png": (noise(20).tobytes(), none),
        "page.gif": (b"<html><body>404</body></html>", none),
        "page.svg": (b"<!-- 404 --><html><svg></svg></html>", none),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "declared.svg": (b"<?xml version='1.0'?>\n<!-- by hand -->\n<svg/>", "SVG"),
        "phone.jpg": (bytes(4)[:3] + b"\x18ftypheic" + bytes(50), "HEIC"),
        "other_phone.heic": (bytes(3) + b"\x18ftypmif1" + bytes(50), "HEIC"),
        "layers.psd": (b"8BPS\0\1" + bytes(50), "PSD"),
        "new.jxl": (b"\xff\x0a" + bytes(50), "JPEG XL"),
        "camera.cr3": (bytes(3) + b"\x18ftypcrx " + bytes(50), raw),
        "camera.dng": (tagged(t50706=1), raw),
        "thumbnail.tif": (tagged(t254=1, t330=8), raw),
        "camera.nef": (saved(halves(), format="TIFF"), raw),
        "film.mp4": (bytes(3) + b"\x18ftypisom" + bytes(50), none),
        "float.tiff": (
            saved(halves().convert("F"), format="TIFF"),
            "TIFF of signed, 32-bit, floating-point or LAB values",
        ),
        "paper.pdf": (b"%PDF-1.4\n", none),
        "list.csv": (b"a,b\n1,2\n", none),
        "archive.zip": (b"PK\x03\x04" + bytes(50), none),
        "ten_bytes.jpg": (saved(halves(), format="JPEG")[:10], none),
        "an_icon.ico": (saved(halves(16, 16), format="ICO"), "ICO"),
        "half.webp": (saved(noise(), format="WEBP")[:1000], none),  # its header tells the length
        "1x1.png": (saved(halves(2, 2).crop((0, 0, 1, 1)), format="PNG"), small),
        "7x100.jpg": (saved(halves(100, 7), format="JPEG"), small),
        "257_megapixels.png": (claims_to_be(257_000, 1000), large),
        "bomb.png": (claims_to_be(60_000, 60_000), large),
    }


def broken() -> dict[str, bytes]:
    """Makes files that begin like a picture but cannot be decoded."""
    jpeg, png = saved(noise(), format="JPEG"), saved(noise(), format="PNG")
    wrong = bytearray(png)
    wrong[len(png) // 2] ^= 0xFF
    return {
        "half.jpg": jpeg[: len(jpeg) // 2],
        "half.png": png[: len(png) // 2],
        "wrong_checksum.png": bytes(wrong),
        "more_than_there_is.png": claims_to_be(4000, 4000),
    }


def write(folder: Path, files: dict[str, bytes]):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def make(root: Path) -> Path:
    """Writes root/train/{halves,other}/ with all of these, and some tricks of file systems."""
    folder = root / "train" / "halves"
    write(folder, used() | broken() | {n: content for n, (content, _) in left_out().items()})
    write(folder / "deeper" / "still", {"plain.png": saved(halves(), format="PNG")})
    write(root / "train" / "other", {"plain.png": saved(noise(), format="PNG")})
    with open(os.path.join(os.fsencode(folder), b"not_utf8_\xff.png"), "wb") as file:
        file.write(saved(halves(), format="PNG"))
    # Not looked at: hidden, or left behind by a system.
    write(folder, {".DS_Store": b"x", ".hidden.png": saved(halves(), format="PNG")})
    write(folder / "__MACOSX", {"plain.png": saved(halves(), format="PNG")})
    os.symlink(folder, folder / "deeper" / "round_and_round")
    os.symlink("nowhere.png", folder / "broken_link.png")
    shutil.copytree(folder / "deeper" / "still", root / "test" / "halves" / "folder.jpg")
    return root
