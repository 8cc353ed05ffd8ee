"""Small image files of every kind, made anew: what the fuzzing of the image reader begins with."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["bombs", "chunk", "png", "seeds"]

SIDE = 9
SCRIPT = '"><script>document.title="owned"</script>'


def seeds() -> dict[str, bytes]:
    """`{name: file}`: all formats and modes, with comments, profiles, palettes and frames."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    rgb, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    palette = rgb.quantize(16)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x9286] = 6, SCRIPT, b"ASCII\0\0\0" + SCRIPT.encode()
    text = PngInfo()
    text.add_text("Comment", SCRIPT)
    text.add_text("Long", "a" * 200, zip=True)
    text.add_itxt("Title", SCRIPT, "en", "Titel", zip=True)
    profile = bytes(128)
    return {
        "rgb.png": _saved(rgb, "PNG"),
        "grey.png": _saved(grey, "PNG"),
        "black and white.png": _saved(grey.convert("1"), "PNG"),
        "sixteen bits.png": _saved(wide, "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "clear palette.png": _saved(palette, "PNG", transparency=3),
        "alpha.png": _saved(alpha, "PNG"),
        "grey alpha.png": _saved(alpha.convert("LA"), "PNG"),
        "told.png": _saved(rgb, "PNG", pnginfo=text, exif=exif, icc_profile=profile, dpi=(1, 1)),
        "moving.png": _saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)]),
        "rgb.jpg": _saved(rgb, "JPEG"),
        "grey.jpg": _saved(grey, "JPEG"),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "told.jpg": _saved(rgb, "JPEG", exif=exif, comment=SCRIPT, icc_profile=profile),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "camera.jpg": _saved(rgb, "MPO", save_all=True, append_images=[rgb]),
        "lossy.webp": _saved(rgb, "WEBP"),
        "lossless.webp": _saved(rgb, "WEBP", lossless=True, exif=exif, icc_profile=profile),
        "alpha.webp": _saved(alpha, "WEBP", lossless=True),
        "moving.webp": _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "rgb.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(palette, "BMP"),
        "alpha.bmp": _saved(alpha, "BMP"),
        "runs.bmp": _runs(),
        "rgb.tif": _saved(rgb, "TIFF"),
        "sixteen bits.tif": _saved(wide, "TIFF"),
        "floats.tif": _saved(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF"),
        "lzw.tif": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _saved(rgb, "TIFF", compression="tiff_deflate", exif=exif),
        "jpeg.tif": _saved(rgb, "TIFF", compression="jpeg"),
        "fax.tif": _saved(grey.convert("1"), "TIFF", compression="group4"),
        "packed.tif": _saved(rgb, "TIFF", compression="packbits"),
        "pages.tif": _saved(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90)]),
        "rgb.ppm": _saved(rgb, "PPM"),
        "grey.pgm": _saved(grey, "PPM"),
        "plain.ppm": b"P3\n# a comment\n3 2\n255\n" + b"255 0 7 " * 6,
        "plain.pbm": b"P1 4 2 1 0 1 0 0 1 0 1",
        "still.gif": _saved(palette, "GIF"),
        "clear.gif": _saved(palette, "GIF", transparency=3, comment=SCRIPT.encode()),
        "moving.gif": _saved(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
    }


def _saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _runs() -> bytes:
    """A BMP of 4x2 in run lengths, which Pillow reads and does not write."""
    colours = bytes((0, 0, 0, 0, 0, 0, 255, 0)) + bytes(4 * 254)
    runs = bytes((4, 1, 0, 0, 2, 0, 2, 1, 0, 1))
    header = struct.pack("<LllHHLLllLL", 40, 4, 2, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(colours)
    return struct.pack("<2sLHHL", b"BM", start + len(runs), 0, 0, start) + header + colours + runs


# --- PNG, chunk by chunk -------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk whose checksum is right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, chunks: Sequence[bytes] = (), pixels: bytes = b"\0") -> bytes:
    """An RGB PNG file that says it is so large."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that hold, or say that they hold, a great deal."""
    zeros = zlib.compress(bytes(2**27), 9)
    gif = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6)
    frame = b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2D\1\0"
    pages = [struct.pack("<H", 1) + struct.pack("<HHLL", 256, 3, 1, 1) for _ in range(50_000)]
    offsets = [8 + 18 * i for i in range(1, len(pages))]
    chain = b"".join(p + struct.pack("<L", o) for p, o in zip(pages, [*offsets, 0], strict=True))
    return {
        "sides.png": png(50_000, 50_000),
        "sides of 31 bits.png": png(2**31 - 1, 2**31 - 1),
        "a line.png": png(2**31 - 1, 1),
        "text.png": png(1, 1, [chunk(b"zTXt", b"Comment\0\0" + zeros)]),
        "international text.png": png(1, 1, [chunk(b"iTXt", b"Title\0\1\0\0\0" + zeros)]),
        "profile.png": png(1, 1, [chunk(b"iCCP", b"name\0\0" + zeros)]),
        "many texts.png": png(1, 1, [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 500),
        "many chunks.png": png(1, 1, [chunk(b"teXt", b"a\0a")] * 200_000),
        "pixels.png": png(1, 1, pixels=bytes(2**27)),
        "sides.bmp": b"BM" + struct.pack("<LHHL", 54, 0, 0, 54)
        + struct.pack("<LllHHLLllLL", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "sides.ppm": b"P6 1000000000 1000000000 255\n",
        "digits.ppm": b"P6 " + b"9" * 10**6 + b" 1 255\n",
        "plain.ppm": b"P3 9000 9000 255\n" + b"1 " * 100,
        "sides.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + frame,
        "frames.gif": gif + frame * 200_000 + b";",
        "comments.gif": gif + (b"!\xfe\xff" + bytes(255) + b"\0") * 20_000 + frame + b";",
        "pages.tif": b"II*\0" + struct.pack("<L", 8) + chain,
        "a loop of pages.tif": b"II*\0" + struct.pack("<L", 8) + pages[0] + struct.pack("<L", 8),
        "a page of entries.tif": b"II*\0" + struct.pack("<LH", 8, 65535)
        + struct.pack("<HHLL", 256, 3, 2**32 - 1, 8) * 65535,
        "sides.webp": b"RIFF" + struct.pack("<L", 22) + b"WEBPVP8L" + struct.pack("<L", 9)
        + b"\x2f\xff\xff\xff\x0f" + bytes(5),
        "sides.jpg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65535, 65535, 3)
        + b"\1\x11\0\2\x11\0\3\x11\0\xff\xd9",
    }  # fmt: skip
