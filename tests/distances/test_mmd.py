"""MMD of patches: blockwise sums are the dense ones, random features and layers tend to them."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax.distances.mmd import MULTISCALE_SIGMAS
from perceptual_jax.ops import kernel_means

RNG = np.random.default_rng(0)
X = RNG.random((2, 11, 13, 3))
Y = np.clip(X[:, ::-1] ** 2 + 0.1 * RNG.standard_normal(X.shape), 0, 1)

KERNELS = ("rbf", "laplace", "linear", "multiscale", "arccos")


def patches(images, size, stride=1):
    """All whole patches of an image [h, w, c] as rows [n, p p c], in jnp or NumPy."""
    corners = (np.arange(0, side - size + 1, stride) for side in images.shape[:2])
    i, j = (grid.reshape(-1, 1, 1) for grid in np.meshgrid(*corners, indexing="ij"))
    rows, columns = i + np.arange(size)[:, None], j + np.arange(size)
    return images[rows, columns].reshape(len(i), -1)


def gram(u, v, kernel, sigmas, same):
    """The dense [n, m] matrix of a kernel; on the diagonal of one with itself roots have a kink."""
    products, apart = u @ v.T, jnp.square(u[:, None] - v[None]).sum(axis=-1)
    diagonal = jnp.eye(len(u), dtype=bool) if same else jnp.zeros(products.shape, bool)
    bandwidths = [sigma * u.shape[1] / 3 for sigma in sigmas]  # B = sigma p^2, of 3 channels
    if kernel in ("rbf", "multiscale"):
        return sum(jnp.exp(-apart / (2 * bandwidth**2)) for bandwidth in bandwidths)
    if kernel == "laplace":
        lengths = jnp.where(diagonal, 0, jnp.sqrt(jnp.where(diagonal, 1, apart)))
        return sum(jnp.exp(-lengths / bandwidth) for bandwidth in bandwidths)
    if kernel == "linear":
        return products
    norms = jnp.linalg.norm(u, axis=1)[:, None] * jnp.linalg.norm(v, axis=1)[None]
    cosines = jnp.where(diagonal, 0, products / norms)
    angles = jnp.arccos(cosines)
    values = norms * (jnp.sin(angles) + (math.pi - angles) * cosines) / (2 * math.pi)
    return jnp.where(diagonal, products / 2, values)


def dense(u, v, kernel, sigmas):
    """MMD^2 of rows u and v, the V-statistic."""
    own = gram(u, u, kernel, sigmas, True).mean() + gram(v, v, kernel, sigmas, True).mean()
    return own - 2 * gram(u, v, kernel, sigmas, False).mean()


def dense_of_images(x, y, size, kernel, sigmas, stride=1, window=None, window_stride=1, pad=True):
    """The sum over images of the mean over windows."""
    total = 0.0
    for one, other in zip(x, y, strict=True):
        margin = size // 2 if pad else 0
        border = ((margin, margin), (margin, margin), (0, 0))
        one, other = (jnp.pad(2 * image - 1, border, mode="reflect") for image in (one, other))
        whole = [(side - 2 * margin if window is None else window) for side in one.shape[:2]]
        found = []
        for i in range(0, one.shape[0] - 2 * margin - whole[0] + 1, window_stride):
            for j in range(0, one.shape[1] - 2 * margin - whole[1] + 1, window_stride):
                place = np.s_[i : i + whole[0] + 2 * margin, j : j + whole[1] + 2 * margin]
                u, v = (patches(image[place], size, stride) for image in (one, other))
                found.append(dense(u, v, kernel, sigmas))
        total = total + sum(found) / len(found)
    return total


@cache
def dense_value_and_gradients(**options):
    """Once for all the ways in which pairs are cut into blocks; in float64."""
    return jax.jit(
        jax.value_and_grad(lambda x, y: dense_of_images(x, y, **options), argnums=(0, 1))
    )(jnp.asarray(X), jnp.asarray(Y))


def check(spec, monkeypatch, block=None, **options):
    """Value and gradient in both images, in float64."""
    if block is not None:
        monkeypatch.setattr(kernel_means, "_BLOCK", block)
    with jax.enable_x64(True):
        x, y = jnp.asarray(X), jnp.asarray(Y)
        distance = pj.make(spec)
        both = jax.jit(jax.value_and_grad(lambda x, y: distance({}, x, y).sum(), argnums=(0, 1)))
        wanted, wanted_gradients = dense_value_and_gradients(**options)
        got, gradients = both(x, y)
        # Both cancel means of some units; 1e-10 of those is the rounding of either.
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10)
        assert got > 1e-3  # Or the tolerance says nothing.
        for gradient, reference in zip(gradients, wanted_gradients, strict=True):
            scale = jnp.abs(reference).max()
            np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-7 * scale)


def sigmas_of(kernel):
    return MULTISCALE_SIGMAS if kernel == "multiscale" else (0.2,)


@pytest.mark.parametrize("kernel", KERNELS)
# 143 patches, 13 in a row, in strips of one row, or of four, which do not divide eleven.
@pytest.mark.parametrize("block", [None, 1, 60])
def test_exact_mmd_is_the_dense_form(kernel, block, monkeypatch):
    """mean k(u, u') + mean k(v, v') - 2 mean k(u, v), however the pairs are cut into blocks."""
    check(
        f"mmd(window=None, sigma=0.2, kernel={kernel!r})",
        monkeypatch,
        block,
        size=3,
        kernel=kernel,
        sigmas=sigmas_of(kernel),
    )


@pytest.mark.parametrize("kernel", ["rbf", "arccos"])
@pytest.mark.parametrize("block", [None, 20])
def test_windows_are_the_dense_form(kernel, block, monkeypatch):
    """The mean over windows of w x w pixels, whose patches reach p // 2 farther."""
    check(
        f"mmd(window=6, stride=4, patch_size=3, sigma=0.2, kernel={kernel!r})",
        monkeypatch,
        block,
        size=3,
        kernel=kernel,
        sigmas=(0.2,),
        window=6,
        window_stride=4,
    )


@pytest.mark.parametrize(("spec", "kernel"), [("mmd-multiscale", "rbf"), ("mmd-linear", "linear")])
@pytest.mark.parametrize("block", [None, 10])
def test_whole_images_are_the_dense_form(spec, kernel, block, monkeypatch):
    """All whole patches, every second one; the sum over bandwidths."""
    check(
        f"{spec}(patch_size=5, stride=2)",
        monkeypatch,
        block,
        size=5,
        kernel=kernel,
        sigmas=MULTISCALE_SIGMAS,
        stride=2,
        pad=False,
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_not_negative(kernel):
    """Not below 0 but for the rounding of float32, for images that hardly differ as well.

    A squared distance of patches rounds by 1e-6. The Laplacian kernel takes its root, 1e-3, and one
    pair in 143, a patch with itself, is near enough to 0 to be moved as far.
    """
    rounding = 1e-5 if kernel == "laplace" else 2e-6
    distance = jax.jit(pj.make(f"mmd(window=None, kernel={kernel!r})").__call__)
    x = jnp.asarray(X, jnp.float32)
    step = jnp.asarray(RNG.standard_normal(X.shape), jnp.float32)
    for scale in (0.0, 1e-6, 1e-4, 1e-2, 0.3):
        assert distance({}, x, x + scale * step).min() > -rounding, scale
    assert distance({}, x, jnp.asarray(Y, jnp.float32)).min() > 1e-4


# --- Random features and random layers -----------------------------------------------------

DRAWS = 96


def root_mean_squares(errors):
    """Of the errors [draws], and that they lie around 0."""
    root = np.sqrt(np.mean(np.square(errors)))
    # An unbiased estimate: the mean of 96 errors is within 4 of its standard deviations of 0.
    assert abs(np.mean(errors)) < 4 * root / math.sqrt(len(errors))
    return root


def assert_halves(errors, *, most):
    """The error falls to a half when the number of features grows fourfold.

    The ratio of two roots of mean squares of 96 draws scatters by 10 percent.
    """
    few, many = (root_mean_squares(each) for each in errors)
    assert many < most
    assert 1.5 < few / many < 2.6, (few, many)


@pytest.mark.parametrize(
    ("common", "shape"),
    [("window=None", (1, 12, 12, 3)), ("window=8, stride=4", (1, 12, 16, 3))],
)
def test_random_features_tend_to_exact_mmd(common, shape):
    """mmd-rff tends to mmd at 1 / sqrt(num_features), over 96 keys."""
    x, y = RNG.random((2, *shape))
    y = 0.6 * y + 0.3
    options = f"sigma=0.15, {common}"
    with jax.enable_x64(True):
        exact = pj.make(f"mmd({options})")({}, x, y).item()

        def errors(count):
            features = pj.make(f"mmd-rff(num_features={count}, {options})")
            keys = jax.random.split(jax.random.key(count), DRAWS)
            values = jax.jit(
                lambda keys: jax.lax.map(lambda key: features(features.init(key), x, y)[0], keys)
            )(keys)
            return np.asarray(values) - exact

        assert_halves([errors(256), errors(1024)], most=0.1 * exact)


def test_random_layers_tend_to_the_arc_cosine_mmd():
    """A layer w ~ N(0, I) of convolution, ReLU and averaging over windows is `kernel="arccos"`.

    mean_k (mean_i relu(w_k u_i) - mean_j relu(w_k v_j))^2 tends to it at 1 / sqrt(width).
    """
    x, y = RNG.random((2, 1, 12, 16, 3))
    y = 0.6 * y + 0.3
    window, stride = 8, 4
    with jax.enable_x64(True):
        exact = pj.make(f"mmd(kernel='arccos', window={window}, stride={stride})")({}, x, y).item()

    def windows(image):
        image = np.pad(2 * image - 1, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        return [
            patches(image[i : i + window + 2, j : j + window + 2], 3)
            for i in range(0, 12 - window + 1, stride)
            for j in range(0, 16 - window + 1, stride)
        ]

    cut = list(zip(windows(x[0]), windows(y[0]), strict=True))

    def error(width):
        w = RNG.standard_normal((27, width))
        answers = [[np.maximum(u @ w, 0).mean(axis=0) for u in pair] for pair in cut]
        return np.mean([np.square(fx - fy).mean() for fx, fy in answers]) - exact

    assert_halves([[error(width) for _ in range(DRAWS)] for width in (128, 512)], most=0.2 * exact)


# --- Memory --------------------------------------------------------------------------------


def temporary_bytes(side, **options):
    """What XLA sets aside for the value and gradient of whole-image MMD."""
    distance = pj.make("mmd", window=None, **options)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    both = jax.jit(jax.value_and_grad(lambda x, y: distance({}, x, y).sum(), argnums=(0, 1)))
    return both.lower(image, image).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "arccos"])
def test_memory_is_linear_in_patches(kernel, monkeypatch):
    """With 4 times the patches 4 times the memory, not 16; strips of one row each."""
    monkeypatch.setattr(kernel_means, "_BLOCK", 1)
    small, large = (temporary_bytes(side, kernel=kernel) for side in (48, 96))
    assert large < 4.5 * small, (small, large)


def test_memory_of_large_patches():
    """All 65,536 patches of 11 x 11 pixels, whose matrix of pairs would take 16 GiB."""
    assert temporary_bytes(256, patch_size=11) < 64 * 2**20
