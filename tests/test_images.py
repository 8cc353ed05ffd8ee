"""Image files are taken as hostile: exact where they can be read, one clear error where not."""

import io
import struct
import zlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perceptual_jax import InputError, images


def picture(height=5, width=7, channels=3, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def saved(tmp_path):
    """`saved(image, name, **options)` writes with Pillow and gives the path."""

    def save(image, name, **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


# --- Reading what can be read --------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_formats_are_exact(saved, suffix):
    pixels = picture()
    read = images.read(saved(Image.fromarray(pixels), f"a.{suffix}"))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_one_pixel(saved):
    np.testing.assert_array_equal(
        images.read(saved(Image.fromarray(picture(1, 1)), "a.png")), picture(1, 1)
    )


def test_grey_is_repeated(saved):
    grey = picture()[..., 0]
    read = images.read(saved(Image.fromarray(grey), "a.png"))
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=-1))


def test_sixteen_bit_grey_is_rounded_to_eight(saved):
    """257 v is v exactly, as 65535 / 255 = 257; halves round up."""
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    read = images.read(saved(Image.fromarray(grey), "a.png"))
    wanted = np.floor(grey / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read[..., 0], wanted)
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


def test_palette_becomes_rgb(saved):
    indexed = Image.fromarray(picture(20, 20)).quantize(16)
    read = images.read(saved(indexed, "a.png"))
    np.testing.assert_array_equal(read, np.asarray(indexed.convert("RGB")))


def test_single_frame_gif(saved):
    indexed = Image.fromarray(picture(20, 20)).quantize(16)
    read = images.read(saved(indexed, "a.gif"))
    np.testing.assert_array_equal(read, np.asarray(indexed.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(saved, orientation):
    """Eight ways to hold the camera, one upright picture."""
    upright = picture()
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), "a.png", exif=exif)
    np.testing.assert_array_equal(images.read(path), upright)


# --- Transparency --------------------------------------------------------------------------


def with_alpha(alpha: int) -> tuple[np.ndarray, Image.Image]:
    pixels = picture()
    channel = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    channel[2, 3] = alpha
    return pixels, Image.fromarray(np.concatenate([pixels, channel], axis=2))


def test_opaque_alpha_is_dropped(saved):
    pixels, image = with_alpha(255)
    np.testing.assert_array_equal(images.read(saved(image, "a.png")), pixels)


def test_transparent_pixels_are_refused(saved):
    _, image = with_alpha(254)
    with pytest.raises(InputError, match="transparent pixels: flatten it, or choose a background"):
        images.read(saved(image, "a.png"))


def test_transparent_pixels_lie_on_the_background(saved):
    pixels, image = with_alpha(0)
    pixels[2, 3] = (10, 20, 30)
    read = images.read(saved(image, "a.png"), background=(10, 20, 30))
    np.testing.assert_array_equal(read, pixels)


def test_transparent_palette(saved):
    """Refused where the transparent entry is used; with a background it shows."""
    indexed = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0])
    path = saved(indexed, "a.png", transparency=0)
    with pytest.raises(InputError, match="transparent"):
        images.read(path)
    read = images.read(path, background=(0, 0, 255))
    assert read.tolist() == [[[0, 0, 255], [0, 255, 0]], [[0, 255, 0], [0, 255, 0]]]


# --- Refusing the rest ---------------------------------------------------------------------


def apng() -> bytes:
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(2)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def gif() -> bytes:
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it is 50000 x 50000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


RGB = Image.fromarray(picture(64, 64))
REFUSED = {
    "empty.png": (b"", "cannot be read as an image"),
    "text.png": (b"not an image at all", "cannot be read as an image"),
    "truncated.png": (encoded(RGB, "PNG")[:-4000], "cannot be read as an image"),
    "truncated.jpg": (encoded(RGB, "JPEG")[:-500], "cannot be read as an image"),
    "header only.png": (encoded(RGB, "PNG")[:33], "cannot be read as an image"),
    "animated.gif": (gif(), "has 3 frames"),
    "animated.png": (apng(), "has 2 frames"),
    "bomb.png": (bomb(), "is larger than 100,000,000 pixels"),
    "cmyk.jpg": (encoded(RGB.convert("CMYK"), "JPEG"), "is CMYK"),
    "float.tif": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "32-bit"),
    "integer.tif": (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "32-bit"),
    "script.eps": (encoded(RGB, "EPS"), "cannot be read as an image"),
    "script.png": (encoded(RGB, "EPS"), "cannot be read as an image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_that_names_the_file(tmp_path, name):
    data, message = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        images.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        images.read(tmp_path / "none.png")


def test_folder(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        images.read(tmp_path)


def test_larger_than_the_caller_allows(saved):
    path = saved(Image.fromarray(picture(10, 10)), "a.png")
    images.read(path, max_pixels=100)
    with pytest.raises(InputError, match="10x10, more than 99 pixels"):
        images.read(path, max_pixels=99)


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]),
    position=st.integers(0, 10**6),
    replacement=st.binary(min_size=1, max_size=8),
    keep=st.floats(0, 1),
)
def test_damaged_files_raise_nothing_else(tmp_path_factory, form, position, replacement, keep):
    """Whatever bytes come: a picture or an `InputError`."""
    data = bytearray(encoded(Image.fromarray(picture(8, 8)), form))
    at = position % len(data)
    data[at : at + len(replacement)] = replacement
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data[: max(1, int(keep * len(data)))])
    try:
        read = images.read(path)
    except InputError:
        return
    assert read.dtype == np.uint8
    assert read.shape[2] == 3


def test_find_is_sorted_and_passes_over_the_rest(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.find(tmp_path)] == ["a.jpg", "b.PNG"]


def test_find_counts(tmp_path):
    names = ["2.png", "10.png", "a2b3.png", "a2b10.png", "a10b1.png", "b.png"]
    for name in sorted(names):
        (tmp_path / name).touch()
    assert [path.name for path in images.find(tmp_path)] == names


def test_find_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        images.find(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        images.find(tmp_path / "none")


# --- Writing -------------------------------------------------------------------------------


def test_written_png_reads_back(tmp_path):
    path = tmp_path / "a.png"
    images.write(path, picture())
    np.testing.assert_array_equal(images.read(path), picture())


def test_a_png_says_what_it_is(tmp_path):
    images.write(tmp_path / "a.png", picture(), description="Rows: l2, ž.")
    with Image.open(tmp_path / "a.png") as written:
        assert written.info["Description"] == "Rows: l2, ž."
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), picture())
    with pytest.raises(InputError, match=r"only a \.png can hold a description; got .*b\.jpg"):
        images.write(tmp_path / "b.jpg", picture(), description="Rows: l2.")


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_the_ending_says_the_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    images.write(path, np.full((16, 16, 3), 0.5, np.float32))
    with Image.open(path) as written:
        assert written.format == {"webp": "WEBP"}.get(suffix, "JPEG")
    np.testing.assert_allclose(images.read(path), 128, atol=1)


def test_one_channel_is_written_as_grey(tmp_path):
    """As maps of distances are."""
    grey = picture()[..., 0]
    images.write(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.gif", picture(), "ending"),
        ("a", picture(), "ending"),
        ("a.png", picture()[0, :, 0], r"\[h, w, 3\] or \[h, w\]"),
        ("a.png", picture(channels=4), r"\[h, w, 3\]"),
    ],
)
def test_refused_writes_leave_nothing(tmp_path, name, image, message):
    with pytest.raises(InputError, match=message):
        images.write(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    """The new file takes the old one's place when it is on disk; until then nothing changes."""
    path = tmp_path / "a.png"
    images.write(path, picture())
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        images.write(path, picture(seed=1))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


# --- Arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "lanczos", "box", "nearest"])
@pytest.mark.parametrize("size", [(3, 4), (40, 9), 16])
def test_resize_is_pillows(method, size):
    pixels = picture(20, 30)
    height, width = (size, size) if isinstance(size, int) else size
    resampling = Image.Resampling[method.upper()]
    wanted = np.asarray(Image.fromarray(pixels).resize((width, height), resampling))
    np.testing.assert_array_equal(images.resize(pixels, size, method=method), wanted)


@pytest.mark.parametrize(
    ("image", "size", "options"),
    [
        (picture().astype(np.float32), 4, {}),
        (picture()[..., 0], 4, {}),
        (picture(), 0, {}),
        (picture(), (4, -1), {}),
        (picture(), 4, {"method": "best"}),
    ],
)
def test_resize_refuses(image, size, options):
    with pytest.raises(InputError):
        images.resize(image, size, **options)


@given(st.lists(st.integers(0, 255), min_size=1))
def test_uint8_survives_floats(values):
    """uint8 -> float -> uint8 is the identity in every value range."""
    pixels = np.array(values, np.uint8)
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        floats = (low + (high - low) * pixels / 255).astype(np.float32)
        np.testing.assert_array_equal(images.to_uint8(floats, value_range=(low, high)), pixels)


def test_to_uint8_clips():
    assert images.to_uint8(np.array([-1, np.nan, np.inf, 7.0])).tolist() == [0, 0, 255, 255]


def test_grid_lays_rows_on_white():
    black = np.zeros((2, 3, 3), np.uint8)
    canvas = images.grid([[black, black], [black]], gap=1)
    wanted = np.full((5, 7, 3), 255, np.uint8)
    wanted[:2, :3] = wanted[:2, 4:] = wanted[3:, :3] = 0
    np.testing.assert_array_equal(canvas, wanted)


@pytest.mark.parametrize("rows", [[], [[]], [[picture(2, 2), picture(3, 3)]]])
def test_grid_refuses(rows):
    with pytest.raises(InputError, match="one size"):
        images.grid(rows)


# --- Checks of values ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "value_range"),
    [
        ([0.0, 1.0], (0, 1)),
        ([-0.01, 1.01], (0, 1)),
        ([-1.0, 1.0], (-1, 1)),
        ([0.0, 255.0], (0, 255)),
        ([], (0, 1)),
    ],
)
def test_check_images_passes(values, value_range):
    images.check_images(np.array(values, np.float32), value_range)


def test_check_images_passes_uint8():
    images.check_images(picture(), (-1, 1))


@pytest.mark.parametrize(
    ("values", "value_range", "hint"),
    [
        ([-0.5, 1.0], (0, 1), r"did you mean value_range=\(-1.0, 1.0\)\?"),
        ([0.0, 200.0], (0, 1), r"did you mean value_range=\(0.0, 255.0\)\?"),
        ([0.0, 200.0], (-1, 1), r"did you mean value_range=\(0.0, 255.0\)\?"),
        ([-3.0, 900.0], (0, 1), r"span \[-3, 900\], outside of value_range \(0, 1\)$"),
        ([0.0, np.nan, np.inf], (0, 1), r"2 values that are not finite"),
    ],
)
def test_check_images_says_what_was_meant(values, value_range, hint):
    with pytest.raises(InputError, match=hint):
        images.check_images(np.array(values, np.float32), value_range)


def test_check_images_refuses_traced_arrays():
    with pytest.raises(InputError, match="outside of jit"):
        jax.jit(images.check_images)(np.zeros(3, np.float32))


def test_images_whose_channels_come_first_are_refused():
    with pytest.raises(InputError, match=r"this looks like \[n, c, h, w\]: use jnp.moveaxis"):
        images.check_images(np.zeros((2, 3, 32, 40), np.float32))
