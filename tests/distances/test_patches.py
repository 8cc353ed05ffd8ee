"""Distances of patches are their definitions, patch by patch."""

import jax
import numpy as np
import pytest

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 16, 19, 3))
Y = np.clip(X + 0.1 * RNG.standard_normal(X.shape), 0, 1)

KERNELS = {
    "patch-rbf": lambda squared, bandwidth: 1 - np.exp(-squared / (2 * bandwidth**2)),
    "patch-laplace": lambda squared, bandwidth: 1 - np.exp(-np.sqrt(squared) / bandwidth),
    "patch-rbf-joint": lambda squared, bandwidth: 1 - np.exp(-squared / bandwidth),
}


def vector(patch, center, unit_norm):
    """A patch [p, p, c] as a vector, centred and scaled; 0.001 stands beside it in the norm."""
    if center is not None:
        patch = patch - patch.mean(axis=None if center == "mean" else (0, 1))
    if not unit_norm:
        return patch.ravel()
    floored = np.append(patch.ravel(), 1e-3)
    return floored / np.linalg.norm(floored)


def map_by_definition(name, x, y, size, sigma, stride=1, padding=True, center=None, unit=False):
    """The kernel of every pair of patches, one after the other, [h', w']."""
    margin = ((size // 2,) * 2,) * 2 if padding else ((0, 0),) * 2
    x, y = (np.pad(2 * image - 1, (*margin, (0, 0))) for image in (x, y))
    down, across = ((side - size) // stride + 1 for side in x.shape[:2])
    values = np.empty((down, across))
    for i, j in np.ndindex(down, across):
        place = np.s_[i * stride : i * stride + size, j * stride : j * stride + size]
        apart = vector(x[place], center, unit) - vector(y[place], center, unit)
        values[i, j] = KERNELS[name](np.square(apart).sum(), sigma * size**2)
    return values


def check(spec, **options):
    """Value and map of both pairs, to the rounding of float64."""
    name = spec.split("(")[0]
    with jax.enable_x64(True):
        distance = pj.make(spec)
        got, maps = distance({}, X, Y), distance.compare_maps({}, *map_inputs(distance))["patches"]
    for i in range(len(X)):
        wanted = map_by_definition(name, X[i], Y[i], **options)
        # Centred norms are differences of sums ten thousand times as large, at the most.
        np.testing.assert_allclose(maps[i], wanted, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(got[i], wanted.mean(), rtol=1e-9)


def map_inputs(distance):
    return distance.embed({}, X), distance.embed({}, Y)


@pytest.mark.parametrize("name", ["patch-rbf", "patch-laplace"])
@pytest.mark.parametrize("center", [None, "mean", "channel_mean"])
@pytest.mark.parametrize("unit", [False, True])
def test_definition(name, center, unit):
    """mean_i k(u_i, v_i) over patches that reach p // 2 over the border, where both are 0."""
    sigma = 0.05
    check(
        f"{name}(sigma={sigma}, center={center!r}, unit_norm={unit})",
        size=3,
        sigma=sigma,
        center=center,
        unit=unit,
    )


@pytest.mark.parametrize("name", ["patch-rbf", "patch-laplace"])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (4, 1), (5, 3)])
def test_sizes_strides_and_padding(name, padding, size, stride):
    """Even sizes too; what is left over at the far edges is not seen."""
    check(
        f"{name}(patch_size={size}, sigma=0.03, stride={stride}, padding={padding})",
        size=size,
        sigma=0.03,
        stride=stride,
        padding=padding,
    )


@pytest.mark.parametrize("stride", [1, 3])
def test_joint_definition(stride):
    """mean_i 1 - exp(-S(i) / B): S is not halved, B not squared, and windows are whole."""
    check(
        f"patch-rbf-joint(patch_size=5, sigma=0.02, stride={stride})",
        size=5,
        sigma=0.02,
        stride=stride,
        padding=False,
    )


@pytest.mark.parametrize("name", ["patch-rbf", "patch-laplace"])
def test_unit_norm_has_a_floor(name):
    """Flat patches are alike whatever their rounding; a faint patch far below 0.001 counts little,
    one far above it as much as a strong one."""
    with jax.enable_x64(True):
        distance = pj.make(f"{name}(center='mean', unit_norm=True, padding=False)")
        flat = np.full_like(X, 0.3)
        # Sums of squares near 10 round by 1e-15, the floor's square is 1e-6; the root of that.
        assert distance({}, flat, flat + 0.2).max() < 1e-4

        def with_noise(scale):
            noise = RNG.standard_normal((2, *X.shape))
            return np.asarray(distance({}, 0.5 + scale * noise[0], 0.5 + scale * noise[1]))

        faint, strong, stronger = (with_noise(scale) for scale in (1e-7, 1e-2, 1e-1))
    assert faint.max() < 1e-2 * strong.min()
    np.testing.assert_allclose(strong.mean(), stronger.mean(), rtol=0.05)


COLOUR = np.array([0.2, -0.1, 0.05])


@pytest.mark.parametrize("name", ["patch-rbf", "patch-laplace"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize(
    ("center", "shift"), [("mean", 0.2), ("channel_mean", 0.2), ("channel_mean", COLOUR)]
)
def test_centred_patches_do_not_see_a_shift(name, unit, center, shift):
    """Brightness, or with "channel_mean" colour: the map of whole patches does not move."""
    with jax.enable_x64(True):
        # Small steps: for `patch-laplace` a difference d of rounding counts as its root.
        distance = pj.make(f"{name}(center={center!r}, unit_norm={unit})")

        def interior(y):
            embeddings = distance.embed({}, X), distance.embed({}, y)
            return distance.compare_maps({}, *embeddings)["patches"][:, 1:-1, 1:-1]

        np.testing.assert_allclose(interior(Y + shift), interior(Y), rtol=1e-9)
        assert interior(X + shift).max() < 1e-6  # The square root of rounding.


@pytest.mark.parametrize("name", ["patch-rbf", "patch-laplace"])
def test_centring_over_all_channels_sees_a_colour(name):
    """One mean for the patch, not one for each channel."""
    value = pj.make(f"{name}(center='mean', padding=False)")({}, X, X + COLOUR)
    assert value.min() > 0.1
    assert pj.make(f"{name}(padding=False)")({}, X, X + 0.2).min() > 0.1
