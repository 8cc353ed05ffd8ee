"""Images outside of `jit`: files, sizes, value ranges, checks, grids.

Pictures read are uint8 RGB arrays [h, w, 3]. Files are taken as hostile: only formats of an
allow-list are decoded, sizes are looked at before pixels, and what cannot be turned into RGB
without guessing is refused with a message that says what to do.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from perceptual_jax._files import write_whole
from perceptual_jax._typing import ImageLike, ValueRange
from perceptual_jax.errors import InputError, choice, shortened
from perceptual_jax.ops.value_range import as_value_range, turned_hint

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "check_images",
    "find",
    "grid",
    "read",
    "resize",
    "to_uint8",
    "write",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
"""The file name endings that `find` takes for images."""

# The decoders that may run. Others of Pillow's start programs (EPS) or are seldom exercised.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")

MAX_PIXELS = 100_000_000
"""The largest picture that `read` decodes by default: a small file can hold a huge one."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


# --- Files ---------------------------------------------------------------------------------


def read(
    path: str | Path,
    *,
    background: tuple[int, int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads an image file as RGB, upright.

    Grey and palette images become RGB, 16-bit grey is scaled to 8 bits, the camera's rotation
    (EXIF) is applied, an alpha channel that is opaque everywhere is dropped.

    Args:
      path: a PNG, JPEG, WebP, BMP, TIFF, PPM or single-frame GIF file.
      background: (red, green, blue) to lay transparent pictures on; by default they are refused,
        since a distance would depend on a colour nobody chose.
      max_pixels: the largest width * height decoded.

    Returns:
      uint8 [h, w, 3].

    Raises:
      InputError: in one line, for what is missing, unreadable, truncated, too large, animated,
        transparent, CMYK, or of more than 16 bits.
    """
    path = Path(path)
    # Path's own questions raise for names that no file can have.
    if os.path.isdir(path):  # noqa: PTH112
        raise InputError(f"{path} is a folder, not an image")
    if not os.path.isfile(path):  # noqa: PTH113
        raise InputError(f"there is no file {shortened(str(path))}")
    if background is not None and not all(0 <= level <= 255 for level in background):
        raise InputError(f"background must be three levels of 0 to 255; got {background}")
    try:
        with warnings.catch_warnings():
            # Pillow's own warning of large pictures; the limit below is ours.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                _check_header(path, picture, max_pixels)
                picture.load()
                return _as_rgb(path, ImageOps.exif_transpose(picture), background)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path} is larger than {max_pixels:,} pixels: scale it down") from None
    except Exception as error:  # Decoders raise errors of every kind on hostile bytes.
        reason = str(error).split("\n")[0].replace(str(path), "").strip(" '\"") or repr(error)
        raise InputError(
            f"{path} cannot be read as an image ({reason}): convert it to PNG or replace it"
        ) from error


def _check_header(path: Path, picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise InputError(
            f"{path} is {width}x{height}, more than {max_pixels:,} pixels: scale it down"
        )
    frames = getattr(picture, "n_frames", 1)
    # A camera's MPO holds previews after the picture itself.
    if frames > 1 and picture.format != "MPO":
        raise InputError(f"{path} has {frames} frames: save the one you mean as PNG")


def _as_rgb(
    path: Path, picture: Image.Image, background: tuple[int, int, int] | None
) -> np.ndarray:
    if picture.mode in _SIXTEEN_BIT:
        grey = np.asarray(picture).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise InputError(f"{path} has 32-bit pixels, whose range is unknown: save it as 8-bit PNG")
    if picture.mode in ("CMYK", "YCCK", "LAB", "HSV"):
        raise InputError(
            f"{path} is {picture.mode}, whose colours depend on a profile: save it as RGB"
        )
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            if background is None:
                raise InputError(
                    f"{path} has transparent pixels: flatten it, or choose a background"
                )
            canvas = Image.new("RGBA", with_alpha.size, (*background, 255))
            with_alpha = Image.alpha_composite(canvas, with_alpha)
        picture = with_alpha
    return np.asarray(picture.convert("RGB"))


def find(folder: str | Path) -> list[Path]:
    """The image files directly in a folder, by name, 2 before 10; hidden files are passed over.

    Raises:
      InputError: if it is not a folder or holds no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return sorted(files, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[str | int]:
    """Text and numbers in turns, so that 2 comes before 10."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def write(
    path: str | Path,
    image: ImageLike,
    *,
    value_range: ValueRange = (0.0, 1.0),
    description: str = "",
) -> None:
    """Writes an image, whole or not at all; the ending of the name says in which format.

    Args:
      path: a .png, .jpg, .jpeg or .webp file; JPEG and WebP at quality 95.
      image: [h, w, 3], or [h, w] in grey; floats in the value range or uint8.
      value_range: (low, high) of float images; values outside are clipped.
      description: what a PNG file says of itself under that keyword.

    Raises:
      InputError: for another ending, a wrong shape, or a description of what is no PNG.
    """
    path = Path(path)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    suffix = choice("the ending of an image written", path.suffix.lower(), formats)
    pixels = to_uint8(image, value_range=value_range)
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise InputError(f"an image to write must be [h, w, 3] or [h, w]; got {pixels.shape}")
    about = {}
    if description:
        if formats[suffix] != "PNG":
            raise InputError(f"only a .png can hold a description; got {path}")
        about["pnginfo"] = PngInfo()
        about["pnginfo"].add_text("Description", description.encode(errors="replace").decode())
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, formats[suffix], quality=95, **about)
    write_whole(path, buffer.getvalue())


# --- Arrays --------------------------------------------------------------------------------

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


def resize(
    image: np.ndarray, size: int | tuple[int, int], *, method: str = "bicubic"
) -> np.ndarray:
    """Resizes a uint8 image with Pillow, antialiased: what the field's data sets are made with.

    Args:
      image: uint8 [h, w, 3].
      size: (height, width) in pixels, or one number for both.
      method: "bicubic", "bilinear", "lanczos", "box" or "nearest".

    Returns:
      uint8 [height, width, 3].

    Raises:
      InputError: for another dtype or shape, or a size that is not positive.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"resize takes uint8 [h, w, 3]; got {image.dtype}{list(image.shape)}")
    choice("method", method, _RESAMPLING)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise InputError(f"size must be positive; got {height}x{width}")
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), _RESAMPLING[method]))


def to_uint8(images: ImageLike, *, value_range: ValueRange = (0.0, 1.0)) -> np.ndarray:
    """Rounds images of any shape to uint8; values outside the range are clipped.

    Example:
      >>> import numpy as np
      >>> from perceptual_jax.images import to_uint8
      >>> to_uint8(np.array([-1.0, 0.0, 2.0]), value_range=(-1, 1)).tolist()
      [0, 128, 255]
    """
    low, high = as_value_range(value_range)
    array = np.asarray(images)
    if array.dtype == np.uint8:
        return array
    unit = (array.astype(np.float64) - low) / (high - low)
    return np.floor(np.clip(np.nan_to_num(unit), 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def check_images(images: ImageLike, value_range: ValueRange = (0.0, 1.0)) -> None:
    """Checks the values of concrete images; a traced array has none, and raises.

    Args:
      images: floats or uint8, of any shape.
      value_range: (low, high) they should span; a hundredth of the range beyond is let pass,
        as resampling overshoots.

    Raises:
      InputError: for values that are not finite or outside the range; it guesses the range meant.
        And for images [n, 3, h, w].
    """
    if isinstance(images, jax.core.Tracer):
        raise InputError("check_images looks at values: call it outside of jit")
    low, high = as_value_range(value_range)
    array = np.asarray(images)
    turned = turned_hint(array.shape)
    if turned:
        raise InputError(f"images must be [n, h, w, c]; got shape {array.shape}{turned}")
    if array.dtype == np.uint8 or array.size == 0:
        return
    least, most = float(array.min()), float(array.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise InputError(f"images hold {bad} values that are not finite")
    slack = (high - low) / 100
    if least >= low - slack and most <= high + slack:
        return
    hint = ""
    for guess in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if guess != (low, high) and guess[0] - slack <= least and most <= guess[1] + slack:
            hint = f"; did you mean value_range={guess}?"
            break
    raise InputError(
        f"images span [{least:g}, {most:g}], outside of value_range ({low:g}, {high:g}){hint}"
    )


def grid(
    images: Sequence[Sequence[ImageLike]],
    *,
    value_range: ValueRange = (0.0, 1.0),
    gap: int = 2,
) -> np.ndarray:
    """Lays rows of equally large images on white.

    Args:
      images: rows of [h, w, 3] images; shorter rows leave their places white.
      value_range: (low, high) of float images.
      gap: pixels between images.

    Returns:
      uint8 [H, W, 3].

    Raises:
      InputError: if there are none or their sizes differ.
    """
    rows = [[to_uint8(image, value_range=value_range) for image in row] for row in images]
    shapes = {image.shape for row in rows for image in row}
    if len(shapes) != 1:
        raise InputError(f"a grid takes images of one size; got {sorted(shapes) or 'none'}")
    height, width, channels = shapes.pop()
    columns = max(len(row) for row in rows)
    canvas = np.full(
        (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            canvas[top : top + height, left : left + width] = image
    return canvas
