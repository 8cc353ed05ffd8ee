"""Sliced Wasserstein distances are their definitions, and do not see where a patch is."""

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import wasserstein_distance

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 16, 19, 3))
Y = np.clip(0.7 * X[:, ::-1] + 0.1 * RNG.standard_normal(X.shape), 0, 1)
COLOUR = np.array([0.1, -0.05, 0.02])


def run(spec, x, y):
    """The distance in float64, and the directions that it drew, [p, p, 3, count]."""
    with jax.enable_x64(True):
        distance = pj.make(spec)
        params = distance.init(jax.random.key(0))
        value = np.asarray(jax.jit(distance.__call__)(params, x, y))
        return value, np.asarray(params[distance.name]["projections"])


# --- Definitions -----------------------------------------------------------------------------


def patches(image, size, stride=1):
    """All whole patches of [h, w, c] as rows, their values in the order row, column, channel."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))
    return windows[::stride, ::stride].transpose(0, 1, 3, 4, 2).reshape(-1, size * size * 3)


def sliced(u, v, directions, power=1):
    """mean |sort(P u) - sort(P v)|^power of rows u and v; fewer ones are interpolated.

    n values are the quantiles (i + 1/2) / n, and so "hazen" in Hyndman and Fan's list.
    """
    count = max(len(u), len(v))
    levels = (np.arange(count) + 0.5) / count
    directions = directions.reshape(-1, directions.shape[-1])
    along = [np.quantile(rows @ directions, levels, axis=0, method="hazen") for rows in (u, v)]
    return (np.abs(along[0] - along[1]) ** power).mean()


def definition(x, y, directions, size, stride=1, power=1, center=None):
    """Of images [h, w, 3] on [-1, 1]."""
    if center is not None:
        axes = {"mean": (0, 1, 2), "channel_mean": (0, 1)}[center]
        x, y = (image - image.mean(axis=axes) for image in (x, y))
    return sliced(patches(x, size, stride), patches(y, size, stride), directions, power)


def compare(got, x, y, directions, **options):
    wanted = [
        definition(2 * one - 1, 2 * other - 1, directions, **options)
        for one, other in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


# --- swd -------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["unit", "std"])
@pytest.mark.parametrize("center", [None, "mean", "channel_mean"])
def test_swd(projection, center):
    """Centred by the mean of each image, not of each patch."""
    spec = f"swd(patch_size=3, num_projections=32, projection={projection!r}, center={center!r})"
    got, directions = run(spec, X, Y)
    compare(got, X, Y, directions, size=3, center=center)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (4, 1), (5, 2), (3, 5)])
@pytest.mark.parametrize("power", [1, 2, 0.5])
def test_swd_of_sizes_strides_and_powers(size, stride, power):
    spec = f"swd(patch_size={size}, stride={stride}, num_projections=16, power={power})"
    got, directions = run(spec, X, Y)
    compare(got, X, Y, directions, size=size, stride=stride, power=power)


def test_directions():
    """Even over all: of norm 1, or of standard deviation 1 over count - 1, and with no mean."""
    for projection, scale in (("unit", np.linalg.norm), ("std", lambda d: d.std(ddof=1))):
        _, directions = run(f"swd(projection={projection!r})", X, Y)
        assert directions.shape == (7, 7, 3, 256)
        np.testing.assert_allclose([scale(each) for each in directions.T], 1, rtol=1e-12)
        each = directions.reshape(-1, 256) / np.linalg.norm(directions.reshape(-1, 256), axis=0)
        # Of 256 even directions in 147 dimensions, the norm of the sum is about 16.
        assert np.linalg.norm(each.sum(axis=1)) < 20


@pytest.mark.parametrize("power", [1, 2])
def test_images_of_other_sizes(power):
    """The image with fewer patches is interpolated between its quantiles, whichever it is."""
    small = Y[:, :9, :14]
    spec = f"swd(patch_size=3, num_projections=16, power={power})"
    got, directions = run(spec, X, small)
    compare(got, X, small, directions, size=3, power=power)
    np.testing.assert_allclose(run(spec, small, X)[0], got, rtol=1e-12)


def test_one_patch_stands_for_all():
    """A single patch has one quantile."""
    got, directions = run("swd(patch_size=3, num_projections=16)", X, Y[:, :3, :3])
    compare(got, X, Y[:, :3, :3], directions, size=3)


def test_each_direction_is_scipys_wasserstein_distance():
    """W1 of the projected patches, direction by direction."""
    got, directions = run("swd(patch_size=3, num_projections=16)", X, Y)
    for i in range(len(X)):
        u, v = (patches(2 * images[i] - 1, 3) @ directions.reshape(27, -1) for images in (X, Y))
        wanted = np.mean([wasserstein_distance(a, b) for a, b in zip(u.T, v.T, strict=True)])
        np.testing.assert_allclose(got[i], wanted, rtol=1e-9)


def test_other_sizes_tend_to_scipys_wasserstein_distance():
    """With 3,600 pixels against 900 of another image, it is W1 to a few parts in a thousand."""
    x, y = RNG.random((1, 60, 60, 3)), RNG.random((1, 30, 30, 3)) ** 2
    got, directions = run("swd(patch_size=1, num_projections=16)", x, y)
    u, v = (patches(2 * images[0] - 1, 1) @ directions.reshape(3, -1) for images in (x, y))
    wanted = np.mean([wasserstein_distance(a, b) for a, b in zip(u.T, v.T, strict=True)])
    np.testing.assert_allclose(got, [wanted], rtol=5e-3)


@pytest.mark.parametrize("center", [None, "mean", "channel_mean"])
def test_tiles_may_change_places(center):
    """With patches side by side, an image is at 0 from its own patches in another order."""
    tiles = RNG.random((2, 4 * 3, 5, 5, 3))
    shuffled = tiles[:, RNG.permutation(12)]

    def laid(tiles):
        return tiles.reshape(2, 4, 3, 5, 5, 3).swapaxes(2, 3).reshape(2, 20, 15, 3)

    spec = f"swd(patch_size=5, stride=5, num_projections=16, center={center!r})"
    moved, _ = run(spec, laid(tiles), laid(shuffled))
    other, _ = run(spec, laid(tiles), RNG.random((2, 20, 15, 3)))
    assert moved.max() < 1e-14  # Rounding: of projections, and of the image's mean.
    assert other.min() > 0.01


@pytest.mark.parametrize(("center", "shift"), [("mean", 0.1), ("channel_mean", COLOUR)])
def test_centred_images_do_not_see_a_shift(center, shift):
    """Of brightness, or of colour; and with "mean" a colour is seen."""
    spec = f"swd(patch_size=3, num_projections=16, center={center!r})"
    assert run(spec, X, X + shift)[0].max() < 1e-14
    assert (
        run("swd(patch_size=3, num_projections=16, center='mean')", X, X + COLOUR)[0].min() > 0.01
    )


# --- What is made of it ----------------------------------------------------------------------


def test_swd_plus_plus():
    """.01 l2 + .2 patch-rbf(11, .015) + swd(11, stride 5, 128 directions, center="channel_mean").

    patch-rbf: mean_i 1 - exp(-S(i) / (2 B^2)), B = .015 * 11^2, zeros beyond the border.
    """
    got, directions = run("swd++", X, Y)
    assert directions.shape == (11, 11, 3, 128)
    for i in range(len(X)):
        x, y = 2 * X[i] - 1, 2 * Y[i] - 1
        squares = np.square(x - y).sum(axis=2)
        window = np.ones((11, 11))
        sums = ndimage.correlate(squares, window, mode="constant")
        rbf = (1 - np.exp(-sums / (2 * (0.015 * 11**2) ** 2))).mean()
        slices = definition(x, y, directions, size=11, stride=5, center="channel_mean")
        wanted = 0.01 * np.square(x - y).mean() + 0.2 * rbf + slices
        np.testing.assert_allclose(got[i], wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("window", "stride", "places"),
    [(8, 4, [(0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (4, 8), (8, 0), (8, 4), (8, 8)])],
)
@pytest.mark.parametrize("power", [1, 2])
def test_windowed_swd(window, stride, places, power):
    """The mean over whole windows: of 16 x 19 pixels the last 3 columns are not seen."""
    spec = f"windowed-swd(window={window}, stride={stride}, num_projections=16, power={power})"
    got, directions = run(spec, X, Y)
    for i in range(len(X)):
        cut = [np.s_[row : row + window, column : column + window] for row, column in places]
        wanted = np.mean(
            [
                definition(2 * X[i][at] - 1, 2 * Y[i][at] - 1, directions, size=3, power=power)
                for at in cut
            ]
        )
        np.testing.assert_allclose(got[i], wanted, rtol=1e-9)


def laplacian_levels(image, levels):
    """Bands of [h, w, 3] on [-1, 1], and the low-pass rest: Gaussian 5, sigma 2, 2x2 means."""
    row = np.exp(-np.square(np.arange(5) - 2) / (2 * 2.0**2))
    window = np.outer(row, row)[:, :, None] / np.outer(row, row).sum()
    for _ in range(levels):
        blurred = ndimage.correlate(image, window, mode="nearest")
        yield image - blurred
        even = blurred[: len(blurred) // 2 * 2, : blurred.shape[1] // 2 * 2]
        image = even.reshape(len(even) // 2, 2, even.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    yield image


@pytest.mark.parametrize("levels", [1, 2])
def test_lap_swd(levels):
    """The sum of every level's, seen along the same directions."""
    spec = f"lap-swd(levels={levels}, patch_size=3, num_projections=16)"
    got, directions = run(spec, X, Y)
    for i in range(len(X)):
        pairs = zip(*(laplacian_levels(2 * image[i] - 1, levels) for image in (X, Y)), strict=True)
        wanted = sum(definition(*pair, directions, size=3) for pair in pairs)
        np.testing.assert_allclose(got[i], wanted, rtol=1e-9)
