"""What cannot be made or compared is refused: which option or size, what came, what would do."""

import re

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from tests.conformance.cases import CASES

WHOLE = "must be a whole number of at least 1; got "
CENTERS = "center must be one of None, 'mean', 'channel_mean'; got "

# Every option that is not checked by the catalogue itself: spec -> what the message says.
BAD_OPTIONS = {
    # Pixels
    "charbonnier(eps=-1)": "eps must be positive; got -1.0",
    "charbonnier(eps=1e-20)": "eps must be at least 1e-18; got 1e-20",
    "charbonnier(eps=True)": "eps must be",
    "lp(p=0)": "p must be positive; got 0.0",
    "charbonnier(eps=1e30)": "eps must be at most 1e+18; got 1e+30",
    "lp(p=1e30)": "p must be at most 100; got 1e+30",
    "lp(p=1e999)": "p must be a finite number; got inf",
    # Pyramids
    "laplacian-pyramid(levels=0)": f"levels {WHOLE}0",
    "laplacian-pyramid(levels=31)": "levels must be at most 30; got 31",
    f"gaussian-pyramid(levels={10**30})": "levels must be at most",
    "mmd-rff(num_features=3000000000)": "num_features must be at most 2147483647; got 3000000000",
    "laplacian-pyramid(levels=1.5)": f"levels {WHOLE}1.5",
    "laplacian-pyramid(kernel_size=4)": "kernel_size must be odd; got 4",
    "laplacian-pyramid(kernel_size=0)": f"kernel_size {WHOLE}0",
    "laplacian-pyramid(kernel_size=-3)": f"kernel_size {WHOLE}-3",
    "laplacian-pyramid(kernel_size=2.5)": f"kernel_size {WHOLE}2.5",
    "laplacian-pyramid(sigma=0)": "sigma must be positive; got 0.0",
    "laplacian-pyramid(sigma='2')": "sigma must be a finite number; got '2'",
    "laplacian-pyramid(weights='4j')": (
        "weights must be one of '4^j', '4^-j', '4^(L-j)', '1'; got '4j', did you mean '4^j'?"
    ),
    "laplacian-pyramid(weights=(1, 2))": "weights must be 4 numbers, one per level; got 2",
    "laplacian-pyramid(weights=3)": "weights must be",
    "laplacian-pyramid(levels=1, weights=(1, 'a'))": "weight must be a finite number; got 'a'",
    "laplacian-pyramid(distance='l3')": "there is no distance 'l3'",
    "laplacian-pyramid(distance=3)": "distance must be a spec of the catalogue; got 3",
    "laplacian-pyramid(distance='lp(p=0)')": "p must be positive",
    "lap1(levels=-1)": f"levels {WHOLE}-1",
    "lap1(sigma=-2)": "sigma must be positive; got -2.0",
    "lap1(kernel_size=4)": "kernel_size must be odd; got 4",
    "gaussian-pyramid(levels=0)": f"levels {WHOLE}0",
    "gaussian-pyramid(weights=(1, 2))": "weights must be 3 numbers, one per level; got 2",
    "gaussian-pyramid(weights='4^k')": "weights must be one of",
    "gaussian-pyramid(distance='l3')": "there is no distance 'l3'",
    # Structure
    "ssim(preset='matlap')": (
        "preset must be one of 'wang2004', 'tensorflow', 'skimage', 'matlab', 'luma'; "
        "got 'matlap', did you mean 'matlab'?"
    ),
    "ms-ssim(levels=0)": "levels must be",
    "ms-ssim(levels=6)": "levels must be 1 to 5 or 'auto'; got 6",
    "ms-ssim(levels='all')": "levels must be 1 to 5 or 'auto'; got 'all'",
    "ms-ssim(preset='tensorflow')": "preset must be one of 'wang2003', 'pytorch-msssim'; got",
    "ms-ssim-l1(alpha=1.5)": "alpha must be in [0, 1]; got 1.5",
    "ms-ssim-l1(alpha='a')": "alpha must be a finite number; got 'a'",
    "ms-ssim-l1(levels=6)": "levels must be 1 to 5 or 'auto'; got 6",
    # Patches
    **{
        f"{name}({option})": message
        for name in ("patch-rbf", "patch-laplace", "patch-rbf-joint")
        for option, message in {
            "patch_size=0": f"patch_size {WHOLE}0",
            "patch_size=2.5": f"patch_size {WHOLE}2.5",
            "patch_size='3'": f"patch_size {WHOLE}'3'",
            "sigma=0": "sigma must be positive; got 0.0",
            "sigma=-1": "sigma must be positive; got -1.0",
            "sigma=1e-30": "sigma must be at least 1e-15; got 1e-30",
            "sigma=1e30": "sigma must be at most 1e+15; got 1e+30",
            "stride=0": f"stride {WHOLE}0",
        }.items()
    },
    "patch-rbf(center='median')": f"{CENTERS}'median', did you mean 'mean'?",
    "patch-laplace(center=True)": f"{CENTERS}True",
    "patch-rbf(padding=1)": "padding must be True or False; got 1",
    "patch-laplace(unit_norm='yes')": "unit_norm must be True or False; got 'yes'",
    "oriented-edges(window=0)": f"window {WHOLE}0",
    "oriented-edges(stride=-1)": f"stride {WHOLE}-1",
    "gabor(window=-1)": f"window {WHOLE}-1",
    "gabor(stride=0)": f"stride {WHOLE}0",
    "gabor(patch_size=4)": "patch_size must be odd; got 4",
    "gabor(patch_size=0)": f"patch_size {WHOLE}0",
    "gabor(filters='sobel')": "filters must be one of 'gabor', 'alexnet'; got 'sobel'",
    "gabor(filters='alexnet', patch_size=7)": "AlexNet's filters have patch_size 11; got 7",
    # Patch distributions
    "mmd(patch_size=4)": "patch_size must be odd; got 4",
    "mmd(patch_size=-1)": f"patch_size {WHOLE}-1",
    "mmd(sigma=1e-30)": "sigma must be at least 1e-15; got 1e-30",
    "mmd-multiscale(sigmas=(1e30, 1))": "sigmas must be at most 1e+15; got 1e+30",
    "mmd-rff(sigma=1e-30)": "sigma must be at least 1e-15; got 1e-30",
    "swd(power=31)": "power must be at most 30; got 31.0",
    "contextual(h=1e-30)": "h must be at least 1e-06; got 1e-30",
    "mmd(sigma=0)": "sigma must be positive; got 0.0",
    "mmd(window=0)": f"window {WHOLE}0",
    "mmd(stride=0)": f"stride {WHOLE}0",
    "mmd(kernel='gauss')": (
        "kernel must be one of 'rbf', 'laplace', 'linear', 'arccos', 'multiscale'; got 'gauss'"
    ),
    "mmd-multiscale(sigmas=())": "sigmas must be positive numbers; got ()",
    "mmd-multiscale(sigmas=0.1)": "sigmas must be positive numbers; got 0.1",
    "mmd-multiscale(sigmas=(0.1, -1))": "sigmas must be positive; got -1",
    "mmd-multiscale(patch_size=0)": f"patch_size {WHOLE}0",
    "mmd-linear(patch_size=0)": f"patch_size {WHOLE}0",
    "mmd-linear(stride=0)": f"stride {WHOLE}0",
    "mmd-rff(patch_size=4)": "patch_size must be odd with padding; got 4",
    "mmd-rff(num_features=0)": f"num_features {WHOLE}0",
    "mmd-rff(sigma=0)": "sigma must be positive; got 0.0",
    "mmd-rff(window=0)": f"window {WHOLE}0",
    "mmd-rff(stride=0)": f"stride {WHOLE}0",
    "mmd-rff(center='middle')": f"{CENTERS}'middle'",
    "mmd++(num_features=0)": f"num_features {WHOLE}0",
    "mmd+++(num_features=-1)": f"num_features {WHOLE}-1",
    "swd(num_projections=0)": f"num_projections {WHOLE}0",
    "swd(patch_size=0)": f"patch_size {WHOLE}0",
    "swd(stride=0)": f"stride {WHOLE}0",
    "swd(power=0)": "power must be positive; got 0.0",
    "swd(projection='sphere')": "projection must be one of 'unit', 'std'; got 'sphere'",
    "swd(center='x')": f"{CENTERS}'x'",
    "swd++(num_projections=0)": f"num_projections {WHOLE}0",
    "windowed-swd(window=0)": f"window {WHOLE}0",
    "windowed-swd(stride=0)": f"stride {WHOLE}0",
    "windowed-swd(num_projections=0)": f"num_projections {WHOLE}0",
    "windowed-swd(window=8, patch_size=9)": "patch_size must be at most the window's 8; got 9",
    "lap-swd(levels=0)": f"levels {WHOLE}0",
    "lap-swd(levels='3')": f"levels {WHOLE}'3'",
    "lap-swd(patch_size=0)": f"patch_size {WHOLE}0",
    "lap-swd(num_projections=0)": f"num_projections {WHOLE}0",
    # Deep features
    "vgg16(metric='l3')": (
        "metric must be one of 'l1', 'l2', 'cosine', 'gram', 'gram-trace', 'l1+gram', "
        "'contextual', 'swd'; got 'l3'"
    ),
    "vgg16(layers=('relu6_1',))": "a layer must be one of 'pixels', 'conv1_1', 'relu1_1', ",
    "vgg16(layers=('relu1_1', 'relu1_1'))": "layers must not repeat",
    "vgg16(layers={'relu1_1': 'a'})": "the weight of 'relu1_1' must be a finite number; got 'a'",
    "vgg16(preprocess='caffe')": "preprocess must be one of 'imagenet', 'signed'; got 'caffe'",
    "vgg16(weights='places')": "weights must be one of 'imagenet', 'random', 'random-zero-mean'",
    "vgg16(gram_normalization='n')": (
        "gram_normalization must be one of 'hw', 'chw', 'gatys', 'none'; got 'n'"
    ),
    "vgg16(precision='full')": "precision must be one of 'highest', 'high', 'default'; got 'full'",
    "alexnet(layers=('relu9',))": "did you mean 'relu5'?",
    "squeezenet1_1(layers=('fire10',))": "did you mean 'fire9'?",
    "contextual(h=0)": "h must be positive; got 0.0",
    "contextual(distance='l3')": "distance must be one of 'cosine', 'l1', 'l2'; got 'l3'",
    "contextual(spatial_weight=1)": "spatial_weight must be in [0, 1); got 1.0",
    "contextual(backbone='vgg12')": "backbone must be one of 'vgg11', 'vgg13', 'vgg16', ",
    "contextual(layers=('conv9',))": "a layer must be one of",
    "lpips-alex(version='0.2')": "version must be one of '0.1', '0.0'; got '0.2'",
    "lpips-vgg(heads='no')": "heads must be True or False; got 'no'",
    "st-lpips-vgg(version='0.0')": "st-lpips-vgg has no option 'version'",
    "dists(precision='x')": "precision must be one of 'highest', 'high', 'default'; got 'x'",
}


@pytest.mark.parametrize("spec", BAD_OPTIONS)
def test_bad_options(spec):
    """In one line that begins with the distance's name, or with that of the part it is about."""
    with pytest.raises(pj.InputError, match=re.escape(BAD_OPTIONS[spec])) as caught:
        pj.make(spec)
    assert "\n" not in str(caught.value)


def compare(spec, *size, channels=3):
    """The shape of the result for images of a size; nothing is computed, no weights are read."""
    images = jax.ShapeDtypeStruct((1, *size, channels), np.float32)
    distance = pj.make(spec)
    params = jax.eval_shape(lambda: distance.init(jax.random.key(0)))
    return jax.eval_shape(distance.__call__, params, images, images).shape


# Windows, patches and pyramids that depend on options: spec -> the side that is large enough.
SMALLEST = {
    "ms-ssim": 161,
    "ms-ssim(levels=3)": 41,
    "ms-ssim-l1(levels=4)": 81,
    "patch-rbf(patch_size=7, padding=False)": 7,
    "patch-rbf-joint(patch_size=9)": 9,
    "oriented-edges(window=20)": 20,
    "gabor(window=12)": 12,
    "mmd(window=24)": 24,
    "mmd(window=None, patch_size=11)": 6,
    "mmd(window=4, patch_size=11)": 6,
    "mmd-multiscale(patch_size=9)": 9,
    "mmd-linear(patch_size=4)": 4,
    "mmd-rff(window=20)": 20,
    "mmd-rff(window=20, padding=False, patch_size=6)": 25,
    "swd(patch_size=13)": 13,
    "windowed-swd(window=24)": 24,
    "laplacian-pyramid(levels=5)": 32,
    "lap1(levels=4)": 16,
    "gaussian-pyramid(levels=4)": 8,
}


@pytest.mark.parametrize("spec", SMALLEST)
def test_images_too_small_for_the_options(spec):
    """The message has the side that works, and it does."""
    side = SMALLEST[spec]
    assert compare(spec, side, side) == (1,)
    for size in ((side - 1, side + 3), (side + 3, side - 1)):
        wanted = f"at least {side}x{side} pixels; got {size[0]}x{size[1]}"
        with pytest.raises(pj.InputError, match=wanted) as caught:
            compare(spec, *size)
        assert str(caught.value).startswith(f"{pj.make(spec).name}: ")


SMALLEST_OF_LEVELS = {
    "lap-swd(levels=3)": 56,
    "lap-swd(levels=1, patch_size=3)": 6,
    "laplacian-pyramid(levels=2, distance='ssim')": 44,
    "gaussian-pyramid(levels=3, distance='ssim')": 44,
}


@pytest.mark.parametrize("spec", SMALLEST_OF_LEVELS)
def test_images_too_small_for_the_last_level(spec):
    """The size meant is that of the images given, not of a level that nobody sees."""
    side = SMALLEST_OF_LEVELS[spec]
    assert compare(spec, side, side) == (1,)
    with pytest.raises(pj.InputError, match=f"{side}x{side} pixels; got {side - 1}x{side + 3}"):
        compare(spec, side - 1, side + 3)


COLOUR = ["gradient(gray=True)", "ssim(preset='luma')", "gmsd", "oriented-edges", "mmd-rff", "swd"]


@pytest.mark.parametrize("spec", COLOUR)
def test_images_with_alpha(spec):
    """Four channels where three are wanted: the message says how to drop the last."""
    with pytest.raises(pj.InputError, match=re.escape("images[..., :3]")):
        compare(spec, 40, 40, channels=4)


# --- NaN -------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X, Y = RNG.random((2, 1, 32, 33, 3)).astype(np.float32)
NETWORKS = ("alexnet", "contextual", "dists", "lpips", "squeezenet", "st-lpips", "vgg")


def cases():
    """All, those that take long to compile as slow ones."""
    for label, case in CASES.items():
        deep = label.startswith(NETWORKS) or "alexnet" in label
        yield pytest.param(case, id=label, marks=pytest.mark.slow if deep else ())


def with_nan(images):
    images = images.copy()
    images[0, 17, 14, 1] = np.nan
    return images


@pytest.mark.usefixtures("weights_store")
@pytest.mark.parametrize("case", list(cases()))
def test_nan_is_not_hidden(case):
    """In x, in y or at the same place of both: the distance is NaN; a run that diverged shows."""
    distance = case.make()
    call = jax.jit(distance.__call__)
    params = distance.init(jax.random.key(0))
    x, y = with_nan(X), with_nan(Y)
    assert np.isnan([call(params, *pair).item() for pair in ((x, Y), (X, y), (x, x))]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(bad):
    """Where the pixels are at hand, the message says how many, and where the first is."""
    x = np.concatenate([X, with_nan(X)])
    x[1, 17, 14, 1] = x[1, 20, 3, 0] = bad
    message = r"l1: images must be finite; 2 of 6336 .* the first images\[1, 17, 14, 1\]; "
    for images in (x, jax.numpy.asarray(x)):
        with pytest.raises(pj.InputError, match=message):
            pj.make("l1")({}, images, X)


@pytest.mark.parametrize("spec", ["l2", "gradient", "fft-l1", "ssim", "patch-rbf", "ms-ssim"])
def test_images_whose_channels_come_first_are_refused(spec):
    """Also by distances of any number of channels, and of a size that would not do."""
    turned = np.zeros((2, 3, 24, 32), np.float32)
    with pytest.raises(pj.InputError, match=r"this looks like \[n, c, h, w\]: use jnp.moveaxis"):
        pj.make(spec)({}, turned, turned)


def test_what_may_be_an_image_is_taken():
    """Three rows, or many channels."""
    for shape in ((1, 3, 40, 3), (1, 3, 40, 8), (1, 8, 40, 32)):
        assert pj.make("l2")({}, np.ones(shape, np.float32), np.zeros(shape, np.float32)) == 4
