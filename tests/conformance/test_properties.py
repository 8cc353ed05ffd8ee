"""The laws over sizes, channels, value ranges, dtypes and batches; the triangle inequality."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.conformance.cases import CASES, GRAM_MATRICES, SHALLOW, Case

pytestmark = pytest.mark.usefixtures("weights_store")

# Every drawn shape is compiled anew, in half a second to five. So the fast tests take one case of
# every file of distances, of those with the most branches, and the slow ones take all others but
# those that are like another. The numbers are of examples: fewer of what takes seconds to compile.
FAMILIES = {
    "lp": 8,
    "lap1(levels=2)": 4,
    "ssim(preset='skimage')": 5,
    "ms-ssim(levels='auto', preset='pytorch-msssim')": 3,
    "gmsd": 5,
    "patch-rbf(center='mean', unit_norm=True)": 5,
    "oriented-edges(window=8, stride=4)": 4,
    "mmd(kernel='laplace', window=None)": 2,
    "mmd++(num_features=64)": 3,
    "swd(num_projections=16, projection='std', center='mean', power=2, stride=2)": 4,
    GRAM_MATRICES: 3,
    "contextual(layers=('relu1_2', 'relu2_2'))": 2,
    "lpips-alex": 2,
    "windows": 3,
}


def cases_of(labels):
    """A parameter "label": fast for what stands for its family."""
    return pytest.mark.parametrize(
        "label",
        [
            pytest.param(label, marks=() if label in FAMILIES else pytest.mark.slow)
            for label in labels
            if label in FAMILIES or not CASES[label].like
        ],
    )


def examples(label: str):
    """Settings; a failure is not made smaller, for every smaller image would be compiled."""
    return settings(
        deadline=None,
        derandomize=True,
        max_examples=FAMILIES.get(label, 3),
        phases=[Phase.explicit, Phase.generate],
    )


@pytest.fixture(autouse=True)
def forget_programs():
    """The programs of every size drawn would fill the memory."""
    yield
    call_of.cache_clear()
    jax.clear_caches()


# --- Images --------------------------------------------------------------------------------

VALUE_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-3.0, 0.5))
DTYPES = ("float32", "uint8", "bfloat16")


def noise(rng, shape):
    return rng.uniform(size=shape)


def smooth(rng, shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]][..., None] / rng.uniform(3, 30)
    return 0.5 + 0.5 * np.sin(rows + rng.uniform(0, 6, shape[2])) * np.cos(columns)


def flat(rng, shape):
    return np.broadcast_to(rng.choice([0.0, 0.3, 1.0], shape[2]), shape)


def saturated(rng, shape):
    return noise(rng, shape).round()


KINDS = (noise, smooth, flat, saturated)


class Pairs(NamedTuple):
    """Pairs of images [n, h, w, c], in a value range and a dtype."""

    x: np.ndarray
    y: np.ndarray
    value_range: tuple[float, float]


@st.composite
def pairs(draw, case: Case, two_sizes: bool = False) -> Pairs:
    """One to three pairs: any side from the smallest, odd and even; channels as the case has it."""
    sides = st.integers(case.smallest, case.smallest + 12)
    x_size = draw(st.tuples(sides, sides))
    y_size = draw(st.tuples(sides, sides)) if two_sizes else x_size
    n = draw(st.integers(1, 3))
    channels = 3 if case.colour else draw(st.integers(1, 4))
    value_range = draw(st.sampled_from(VALUE_RANGES))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def images(size):
        kinds = draw(st.lists(st.sampled_from(KINDS), min_size=n, max_size=n))
        unit = np.stack([kind(rng, (*size, channels)) for kind in kinds])
        if dtype == "uint8":
            return np.round(255 * unit).astype(np.uint8)
        low, high = value_range
        return (low + (high - low) * unit).astype(jnp.dtype(dtype))

    return Pairs(images(x_size), images(y_size), value_range)


@cache
def call_of(label: str, value_range: tuple[float, float] = (0.0, 1.0)):
    """`call(x, y)`, jitted, of a case."""
    distance = CASES[label].make(value_range=value_range)
    params, call = distance.init(jax.random.key(0)), jax.jit(distance.__call__)
    return lambda x, y: np.asarray(call(params, x, y))


def assert_close(got, wanted, case: Case, dtype) -> None:
    """To the case's tolerance, relative to the largest; to that of bfloat16 for such images."""
    tolerance = case.float32 if dtype != jnp.bfloat16 else case.bfloat16 or 0.02
    atol = tolerance * np.abs(wanted).max() + case.rounding
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=atol)


# Where the scale of the value range is no power of two, the compiler may fuse the scaling of one
# image into its difference from the other, and rounds the two apart by 6e-8: of white images SSIM
# makes the square of that over its constant 9e-4.
FUSED = 1e-11

# --- Laws ----------------------------------------------------------------------------------


@cases_of(CASES)
def test_laws_hold_for_images_of_any_kind(label):
    """Finite; 0 (or `least`) where images agree; symmetric; a pair alone is as in a batch."""
    case = CASES[label]

    @examples(label)
    @given(pairs(case), st.data())
    def check(drawn, data):
        x, y, value_range = drawn
        call = call_of(label, value_range)
        n = len(x)
        values = call(np.concatenate([x, y, x]), np.concatenate([y, x, x]))
        there, back, same = values[:n], values[n : 2 * n], values[2 * n :]
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert (values >= min(case.least, 0) - case.rounding).all()
        if case.zero:
            np.testing.assert_allclose(same, 0, atol=case.rounding + FUSED)
        else:
            assert (same >= case.least).all()
        if case.symmetric:
            assert_close(back, there, case, x.dtype)
        i = data.draw(st.integers(0, n - 1))
        assert_close(call(x[i : i + 1], y[i : i + 1]), there[i : i + 1], case, x.dtype)

    check()


@cases_of((label for label, case in CASES.items() if case.any_sizes))
def test_laws_hold_for_images_of_two_sizes(label):
    """Finite, not below the least, symmetric, where images may differ in size."""
    case = CASES[label]

    @examples(label)
    @given(pairs(case, two_sizes=True))
    def check(drawn):
        x, y, value_range = drawn
        call = call_of(label, value_range)
        values = call(x, y)
        assert np.isfinite(values).all()
        assert (values >= min(case.least, 0) - case.rounding).all()
        if case.symmetric:
            assert_close(call(y, x), values, case, x.dtype)

    check()


@pytest.mark.parametrize(
    "label",
    [
        "l1",
        "gradient",
        "ssim",
        "ms-ssim-l1(levels=2)",
        "weighted sum",
    ],
)
def test_identical_images_are_at_rest_in_any_range(label):
    """Also in [0, 255], to the rounding of a fused scaling; the ranges of `test_laws` are exact."""
    distance = CASES[label].make(value_range=(0.0, 255.0))
    x = 255 * np.random.default_rng(0).uniform(size=(3, 21, 24, 3)).astype(np.float32)

    @jax.jit
    def gradients(x, y):
        return jax.grad(lambda x, y: distance({}, x, y).sum(), argnums=(0, 1))(x, y)

    for gradient in gradients(x, x):
        np.testing.assert_allclose(255 * gradient, 0, atol=1e-5)


# --- The triangle inequality ---------------------------------------------------------------


class Proof(NamedTuple):
    """Why d(x, z)^power <= d(x, y)^power + d(y, z)^power.

    Attributes:
      power: of the distance.
      reason: the proof.
      labels: the cases it is of.
    """

    power: float
    reason: str
    labels: tuple[str, ...]


PROOFS = (
    Proof(
        1,
        "an l1 norm of the difference of two embeddings",
        (
            "l1",
            "gradient",
            "gradient(gray=True)",
            "fft-l1",
            "lap1(levels=2)",
            "gaussian-pyramid(levels=2, weights=(1, 2))",
            "swd(num_projections=16)",
            "windowed-swd(num_projections=16, window=16)",
            "lap-swd(num_projections=16, levels=2)",
            "vgg16",
            f"vgg16(metric='swd', {SHALLOW})",
            "vgg16(layers={'pixels': 2.0, 'pool1': 0.5}, preprocess='signed')",
            f"vgg16-random({SHALLOW})",
            f"vgg16-random-zero-mean({SHALLOW})",
            "alexnet",
            *(
                f"{name}(weights='random', layers=('pool1',))"
                for name in ("vgg11", "vgg13", "vgg19")
            ),
            *(
                f"{name}_bn(weights='random', layers=('relu1_1',))"
                for name in ("vgg11", "vgg13", "vgg16", "vgg19")
            ),
            "squeezenet1_0(weights='random', layers=('fire2',))",
            "squeezenet1_1(weights='random', layers=('fire2', 'pool3'))",
            "alexnet-random(layers=('relu1',))",
            "alexnet-random-zero-mean(layers=('pool1',))",
            "gaussian pyramid",
            "laplacian pyramid",
        ),
    ),
    Proof(1, "|a + b|^p <= |a|^p + |b|^p for p <= 1", ("lp",)),
    Proof(
        1,
        "sqrt((a + b)^2 + eps^2) = |(a, eps) + (b, 0)| <= |(a, eps)| + |(b, eps)|",
        ("charbonnier",),
    ),
    Proof(
        1,
        "1 - exp(-t) is concave and 0 at 0, so of the metric t = |u - v| / B it makes a metric",
        ("patch-laplace",),
    ),
    Proof(
        0.5,
        "the square of a Euclidean norm of the difference of two embeddings, whose weights (the "
        "heads of LPIPS among them) are not negative",
        (
            "l2",
            "laplacian-pyramid(levels=2, distance='l2')",
            "oriented-edges(window=8, stride=4)",
            "gabor(window=8, stride=4)",
            "gabor(filters='alexnet', window=8, stride=4)",
            "mmd(kernel='linear')",
            "mmd-linear",
            "mmd-rff(num_features=64, window=8, stride=4)",
            "mmd-rff(num_features=64, window=None, center='mean', padding=False)",
            "mmd-rff(num_features=64, window=1)",
            "swd(num_projections=16, projection='std', center='mean', power=2, stride=2)",
            f"vgg16(metric='l2', {SHALLOW})",
            f"vgg16(metric='cosine', {SHALLOW})",
            GRAM_MATRICES,
            f"vgg16(metric='gram-trace', {SHALLOW})",
            "lpips-alex",
            "lpips-alex(version='0.0')",
            "lpips-alex(heads=False)",
            "lpips-vgg",
            "lpips-squeeze",
            "st-lpips-alex",
            "st-lpips-vgg",
            "resized",
        ),
    ),
    Proof(
        0.5,
        "1 - k(u, v) is half the squared distance of u and v in the space of the kernel k",
        (
            "patch-rbf",
            "patch-rbf(padding=False, center='channel_mean', stride=2)",
            "patch-rbf(center='mean', unit_norm=True)",
            "patch-rbf-joint(patch_size=5)",
        ),
    ),
    Proof(
        0.5,
        "the squared distance of two mean patches in the space of a kernel",
        (
            "mmd",
            "mmd(kernel='laplace', window=None)",
            "mmd(kernel='arccos', patch_size=5, window=16, stride=8)",
            "mmd(kernel='multiscale', window=16)",
            "mmd-multiscale(stride=3)",
        ),
    ),
    Proof(
        0.5,
        "a sum of parts whose roots are metrics, as the root of a metric is: Minkowski",
        (
            "mmd++(num_features=64)",
            "mmd+++(num_features=64)",
            "swd++(num_projections=16)",
            f"vgg16(metric='l1+gram', {SHALLOW})",
        ),
    ),
    # P. Hasto, "A new weighted metric: the relative metric I", 2002: of vectors, without c, which
    # one more entry sqrt(c / 2) of both gives.
    Proof(
        0.5,
        "|u - v| / sqrt(|u|^2 + |v|^2 + c) is a metric; DISTS is a mean of its squares",
        ("dists",),
    ),
)
POWERS = {label: proof.power for proof in PROOFS for label in proof.labels}

UNPROVED = {
    **dict.fromkeys(
        (label for label in CASES if label.startswith(("ssim", "ms-ssim"))),
        "SSIM multiplies a luminance and a structure that are each the square of a metric",
    ),
    "gmsd": "a deviation over places, not a mean",
    **dict.fromkeys(
        (label for label in CASES if "contextual" in label), "not even symmetric: nearest features"
    ),
    "weighted sum": "has a part SSIM",
    "tiles": "is SSIM, tile by tile",
    "windows": "is SSIM of windows",
}


def test_every_case_has_a_proof_or_a_reason():
    assert sorted([*POWERS, *UNPROVED]) == sorted(CASES)


def triples(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Triples [3, n, h, w, c]: random ones, and those where an inequality would fail first."""
    rng = np.random.default_rng(seed)
    a, b, c = (kind(rng, shape) for kind in (noise, smooth, noise))
    one_pixel = a.copy()
    one_pixel[shape[0] // 2, shape[1] // 2] = 1 - one_pixel[shape[0] // 2, shape[1] // 2]
    black, grey, white = (np.full(shape, level) for level in (0.0, 0.5, 1.0))
    near = np.clip(a + 1e-3 * rng.standard_normal(shape), 0, 1)
    found = [
        (a, b, c),
        *(tuple(KINDS[k](rng, shape) for k in rng.integers(len(KINDS), size=3)) for _ in range(2)),
        (a, (a + c) / 2, c),  # Of a norm the two sides are equal here.
        (b, 0.9 * b + 0.1 * c, c),
        (a, one_pixel, c),
        (a, c, one_pixel),  # The way from one to its neighbour is long.
        (a, near, one_pixel),
        (black, grey, white),
        (black, a, white),
        (flat(rng, shape), b, flat(rng, shape)),
        (a, a, c),
    ]
    return np.stack(found, axis=1)


@cases_of(POWERS)
def test_triangle_inequality(label):
    """In float64, to a millionth of the root: a root makes 1e-6 of a rounding of 1e-12."""
    power, side = POWERS[label], CASES[label].smallest

    @settings(deadline=None, derandomize=True, max_examples=8)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        x, y, z = triples(seed, (side + 4, side + 7, 3))
        with jax.enable_x64(True):
            d = call_of(label)(np.concatenate([x, y, x]), np.concatenate([y, z, z]))
        assert d.dtype == np.float64
        # Rounding may leave a little less than nothing.
        first, second, across = np.split(np.maximum(d, 0) ** power, 3)
        rounding = (1e-12 * d.max()) ** power
        assert (across <= first + second + rounding).all()

    check()
