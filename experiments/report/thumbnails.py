"""Which picture stands for a run, and that picture made small.

Files are taken as hostile: few decoders may run, and sizes are looked at before pixels.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from perceptual_jax.errors import InputError

__all__ = ["MOST_PIXELS", "description", "face", "is_picture", "is_plot", "thumbnail"]

MOST_PIXELS = 40_000_000
"""The largest picture that is shown: a browser needs four bytes for each of its pixels."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_FACES = {
    "autoencoder": "reconstructions",
    "cluster": "scores",
    "demo": "grid.",
    "glo": "reconstructions",
    "image-mean": "grid",
    "invert": "after-relu",
    "super-resolution": "crops",
    "two-afc": "scores",
}
"""What the names of the pictures begin with that stand for a command's runs; else its first."""
_PLOTS = "scores"
_FLATTEST_PLOT = 3.0
"""Width to height. A flatter one, of few distances, is a hairline on a card: a number says more."""
_SIZE = (480, 320)
"""Twice the pixels of a card's picture on a page 1300 pixels wide, for fine displays."""
_WIDEST, _TALLEST = 2.0, 1.0
"""Width to height. Of a longer strip the right end is shown, where what was made stands after what
was given, and of a longer column the top: all of them would show nothing."""


def is_picture(path: Path) -> bool:
    """Whether a file is called like one that a browser can show, and is not hidden."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def is_plot(path: Path) -> bool:
    """Whether a picture is called like a plot, which is read and not looked at."""
    return path.name.startswith(_PLOTS)


def description(path: Path) -> str:
    """What a picture's head says of it, or "".

    Raises:
      InputError: if it is none, or too large; the message goes on after the file's name.
    """
    with _open(path) as picture:
        said = picture.info.get("Description")
    return said if isinstance(said, str) else ""


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # The limit is ours.
            picture = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"has more than {MOST_PIXELS:,} pixels") from None
    except Exception:  # Decoders raise errors of every kind on hostile bytes.
        raise InputError("cannot be read as a picture") from None
    width, height = picture.size
    if width * height > MOST_PIXELS:
        picture.close()
        raise InputError(f"is {width}x{height}, more than {MOST_PIXELS:,} pixels")
    return picture


def face(command: str, pictures: Sequence[Path], *, finished: bool) -> Path | None:
    """The picture that stands for a run: of an unfinished one, the last that was written."""
    if not pictures:
        return None
    if not finished:
        return max(pictures, key=lambda path: path.lstat().st_mtime)
    prefix = _FACES.get(command, "")
    return next((path for path in pictures if path.name.startswith(prefix)), pictures[0])


def thumbnail(path: Path) -> str | None:
    """A picture as a data URL of a WebP image of at most 480 x 320 pixels; of a plot, all of it.

    Returns:
      None for a plot too flat to be read at that size.

    Raises:
      InputError: if it cannot be read; the message goes on after the file's name.
    """
    with _open(path) as picture:
        if is_plot(path) and picture.width > _FLATTEST_PLOT * picture.height:
            return None
        try:
            small = picture.convert("RGBA")
            if not is_plot(path):
                small = small.crop(_shown_part(*picture.size))
            small.thumbnail(_SIZE, reducing_gap=2.0)
            # A card is filled with its picture: of a plot nothing may be cut away for that.
            size = _SIZE if is_plot(path) else small.size
            flat = Image.new("RGB", size, "white")
            place = (size[0] - small.width) // 2, (size[1] - small.height) // 2
            flat.paste(small, place, small.getchannel("A"))
            buffer = io.BytesIO()
            flat.save(buffer, "WEBP", quality=82, method=4)
        except Exception:  # As above.
            raise InputError("cannot be read as a picture") from None
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown_part(width: int, height: int) -> tuple[int, int, int, int]:
    left = max(0, width - round(height * _WIDEST))
    return left, 0, width, min(height, round(width / _TALLEST))
