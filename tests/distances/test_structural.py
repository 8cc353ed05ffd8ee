"""SSIM and its kin are what their authors' code computes."""

import jax
import numpy as np
import pytest
from scipy import ndimage

import perceptual_jax as pj

RNG = np.random.default_rng(0)


def images(*size):
    """Smooth images and noisy copies, in [0, 1], of even mean: all terms of SSIM count."""
    x = ndimage.gaussian_filter(RNG.random((2, *size, 3)), (0, 2, 2, 0))
    x = (x - x.min()) / (x.max() - x.min())
    return x, np.clip(0.8 * x + 0.1 + 0.1 * RNG.standard_normal(x.shape), 0, 1)


X, Y = images(33, 40)


def ssim(x, y, **options):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(pj.make("ssim", **options).__call__)({}, x, y))


# --- Definitions -----------------------------------------------------------------------------


def gaussian():
    """fspecial('gaussian', 11, 1.5)."""
    rows, columns = np.mgrid[-5:6, -5:6]
    window = np.exp(-(rows**2 + columns**2) / (2 * 1.5**2))
    return window / window.sum()


def whole_windows(image, window):
    """filter2(window, image, 'valid') of images [h, w]."""
    filtered = ndimage.correlate(image, window, mode="constant")
    rows, columns = (side // 2 for side in window.shape)
    return filtered[rows:-rows, columns:-columns]


def factors(x, y, white=1.0):
    """Maps of SSIM's luminance and of its contrast and structure, of images [h, w]."""
    c1, c2 = (0.01 * white) ** 2, (0.03 * white) ** 2
    window = gaussian()
    mean_x, mean_y = whole_windows(x, window), whole_windows(y, window)
    variance_x = whole_windows(x * x, window) - mean_x**2
    variance_y = whole_windows(y * y, window) - mean_y**2
    covariance = whole_windows(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def index(x, y, white=1.0):
    luminance, structure = factors(x, y, white)
    return (luminance * structure).mean()


def of_channels(measure, x, y):
    return np.mean([measure(x[..., c], y[..., c]) for c in range(3)])


# --- SSIM ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("skimage", {}),
        ("wang2004", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
    ],
)
def test_scikit_image(preset, options):
    """Theirs averages windows that leave the image as well, ours whole ones."""
    metrics = pytest.importorskip("skimage.metrics")
    pad = {"skimage": 3, "wang2004": 5}[preset]
    got = 1 - ssim(X, Y, preset=preset)
    for i in range(len(X)):
        _, whole = metrics.structural_similarity(
            X[i], Y[i], channel_axis=-1, data_range=1.0, full=True, **options
        )
        np.testing.assert_allclose(got[i], whole[pad:-pad, pad:-pad].mean(), rtol=1e-9)


@pytest.mark.parametrize("preset", ["wang2004", "tensorflow"])
def test_the_paper(preset):
    """The mean over whole windows of an 11x11 Gaussian, then over channels."""
    wanted = [1 - of_channels(index, x, y) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(ssim(X, Y, preset=preset), wanted, rtol=1e-9)


def test_tensorflow():
    """`tf.image.ssim` as it is written: the window a softmax, moments of sums, not of products."""
    squares = np.square(np.arange(11) - 5) * -0.5 / 1.5**2
    window = np.exp((squares[:, None] + squares).ravel())
    window = (window / window.sum()).reshape(11, 11)

    def index(x, y):
        mean_x, mean_y = whole_windows(x, window), whole_windows(y, window)
        products, squared = mean_x * mean_y * 2, mean_x**2 + mean_y**2
        luminance = (products + 0.01**2) / (squared + 0.01**2)
        crossed = whole_windows(x * y, window) * 2
        powers = whole_windows(x**2 + y**2, window)
        return (luminance * (crossed - products + 0.03**2) / (powers - squared + 0.03**2)).mean()

    wanted = [1 - of_channels(index, x, y) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(ssim(X, Y, preset="tensorflow"), wanted, rtol=1e-9)


def shrunk_by_matlab(image):
    """imfilter(image, ones(f) / f^2, 'symmetric', 'same'), every f-th pixel, f about side / 256."""
    factor = max(1, int(np.floor(min(image.shape) / 256 + 0.5)))  # round() takes halves upwards.
    window = np.full((factor, factor), 1 / factor**2)
    # The centre of an even window is left of the middle there, right of it here.
    origin = (factor - 1) // 2 - factor // 2
    filtered = ndimage.correlate(image, window, mode="reflect", origin=origin)
    return filtered[::factor, ::factor]


@pytest.mark.parametrize("size", [(33, 40), (383, 390), (384, 401), (700, 640), (898, 901)])
def test_matlab(size):
    """Wang's ssim.m, on gray images in [0, 255] that are not rounded, shrunk by 1 to 4.

    Sides are whole multiples of the factor and not.
    """
    x, y = images(*size)
    weights = (0.2989, 0.5870, 0.1140)
    shrunk = [[shrunk_by_matlab(255 * image @ weights) for image in batch] for batch in (x, y)]
    wanted = [1 - index(*pair, white=255) for pair in zip(*shrunk, strict=True)]
    np.testing.assert_allclose(ssim(x, y, preset="matlab"), wanted, rtol=1e-9)


def test_luma():
    """On Y of YCbCr in [16, 235], as scikit-image has it."""
    color = pytest.importorskip("skimage.color")
    luma = [color.rgb2ycbcr(image)[..., 0] for image in (X, Y)]
    wanted = [1 - index(*pair, white=255) for pair in zip(*luma, strict=True)]
    np.testing.assert_allclose(ssim(X, Y, preset="luma"), wanted, rtol=1e-9)


@pytest.mark.parametrize("preset", ["wang2004", "skimage"])
@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_ssim_in_bfloat16_on_smooth_images(preset, level):
    """Its moments are taken in float32: small variances are differences of large numbers."""
    noise = jax.random.normal(jax.random.key(0), (2, 1, 32, 32, 3))
    x, y = (level + 0.01 * noise).astype("bfloat16")
    narrow = pj.make("ssim", preset=preset)({}, x, y)
    wide = pj.make("ssim", preset=preset)({}, x.astype("float32"), y.astype("float32"))
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


# --- MS-SSIM ---------------------------------------------------------------------------------

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # Of the paper.


def halved(image):
    """imfilter(image, ones(2) / 4, 'symmetric'), every second pixel, of images [h, w]."""
    filtered = ndimage.correlate(image, np.full((2, 2), 0.25), mode="reflect", origin=-1)
    return filtered[::2, ::2]


def multiscale_index(levels):
    """MS-SSIM of images [h, w]: contrast and structure of each scale, at the last luminance too."""
    weights = WEIGHTS[:levels] if levels == 5 else WEIGHTS[:levels] / WEIGHTS[:levels].sum()

    def index(x, y):
        similarity = 1.0
        for level, weight in enumerate(weights):
            luminance, structure = factors(x, y)
            last = level == levels - 1
            value = (luminance * structure).mean() if last else structure.mean()
            similarity *= max(value, 0) ** weight
            x, y = halved(x), halved(y)
        return similarity

    return index


def multiscale(x, y, levels):
    """MS-SSIM's distance of every pair."""
    return [1 - of_channels(multiscale_index(levels), *pair) for pair in zip(x, y, strict=True)]


def ms_ssim(x, y, **options):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(pj.make("ms-ssim", **options).__call__)({}, x, y))


@pytest.mark.parametrize(
    ("levels", "size"), [(1, (11, 12)), (2, (23, 21)), (3, (41, 47)), (5, (161, 171))]
)
def test_ms_ssim(levels, size):
    """The paper's product of powers, also of odd sides, in each channel; `"auto"` takes all."""
    x, y = images(*size)
    wanted = multiscale(x, y, levels)
    np.testing.assert_allclose(ms_ssim(x, y, levels=levels), wanted, rtol=1e-9)
    np.testing.assert_array_equal(ms_ssim(x, y, levels="auto"), ms_ssim(x, y, levels=levels))


def test_opposite_structure_counts_as_none():
    """The negative of an image is as far as can be, and pushes nowhere; of one channel, a third."""
    distance, x = pj.make("ms-ssim", levels=2), X.astype(np.float32)
    push = jax.jit(jax.value_and_grad(lambda x, y: distance({}, x, y).sum()))
    value, gradient = push(x, 1 - x)
    assert value == len(X)
    assert not gradient.any()
    y = X.copy()
    y[..., 0] = 1 - y[..., 0]
    wanted = multiscale(X, y, 2)
    assert np.allclose(wanted, 1 / 3)
    np.testing.assert_allclose(ms_ssim(X, y, levels=2), wanted, rtol=1e-9)


@pytest.mark.parametrize(("levels", "size"), [(2, (161, 171)), (5, (161, 171)), (5, (176, 192))])
def test_pytorch_msssim(levels, size):
    """Odd sides see zeros on both sides; theirs with a window in float64."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("pytorch_msssim")
    x, y = images(*size)
    row = gaussian().sum(axis=0)
    weights = WEIGHTS[:levels] / (1 if levels == 5 else WEIGHTS[:levels].sum())
    wanted = package.ms_ssim(
        *(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()) for image in (x, y)),
        data_range=1.0,
        size_average=False,
        win=torch.from_numpy(np.tile(row, (3, 1, 1, 1))),
        weights=weights.tolist(),
    )
    got = ms_ssim(x, y, levels=levels, preset="pytorch-msssim")
    np.testing.assert_allclose(got, 1 - wanted.numpy(), rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.84, 1.0])
def test_ms_ssim_l1(alpha):
    """alpha (1 - MS-SSIM) + (1 - alpha) mean |x - y| on [0, 1]."""
    with jax.enable_x64(True):
        got = jax.jit(pj.make("ms-ssim-l1", alpha=alpha, levels=2).__call__)({}, X, Y)
    apart = np.abs(X - Y).mean(axis=(1, 2, 3))
    wanted = alpha * np.array(multiscale(X, Y, 2)) + (1 - alpha) * apart
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
