"""The one table of what the laws are checked on; a new distance joins by adding one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import perceptual_jax as pj
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.distance import Distance

__all__ = ["CASES", "GRAM_MATRICES", "SHALLOW", "Case"]


class Case(NamedTuple):
    """What is promised of one distance.

    Attributes:
      label: a catalogue spec, or words for a combination.
      make: `make(**options)`, options `value_range` and, where `bfloat16` is a number, `dtype`.
      smallest: the side of the smallest square image.
      zero: whether identical images are at distance 0.
      symmetric: whether d(x, y) = d(y, x).
      maps: whether it says where images differ.
      colour: whether it takes images of three channels only.
      any_sizes: whether x and y may differ in size.
      bfloat16: bound of the relative error with dtype="bfloat16"; None where there is no such
        option. Bounds are twice the error measured on the pairs of `test_laws`, or more.
      rounding: how far from 0 identical images may be: 0 but for networks.
      float32: relative tolerance between two ways to compute the same in float32.
      gradient: the same for gradients, relative to their norm.
      least: the smallest value where identical images are not at 0.
      always_moves: whether the gradient is nowhere 0 but at identical images: not where a distance
        saturates, or looks at the length of a gradient that is 0 in a flat image.
      at_rest: whether an embedding's distance from itself has gradient 0 in the embedding: not
        where the embedding holds a number that only images can change together with the rest.
      stand_in: whether a random draw stands in for weights that are not to be had here.
      slope: relative tolerance of a float64 gradient to a difference over a step of 1e-8.
      largest: the largest pixel of which it is finite.
      like: the label of a case that the same code computes, with other numbers: how batches, rows
        and devices are treated is checked there, and what `test_properties` draws.
    """

    label: str
    make: Callable[..., Distance]
    smallest: int = 1
    zero: bool = True
    symmetric: bool = True
    maps: bool = True
    colour: bool = False
    any_sizes: bool = False
    bfloat16: float | None = 0.01
    rounding: float = 0.0
    float32: float = 1e-5
    gradient: float = 1e-4
    least: float = 0.0
    always_moves: bool = True
    at_rest: bool = True
    stand_in: bool = False
    slope: float = 1e-3
    largest: float = 1e15
    like: str = ""


def listed(spec: str, smallest: int = 1, **promises) -> Case:
    """A spec of the catalogue."""
    return Case(spec, lambda **options: pj.make(spec, **options), smallest, **promises)


def deep(spec: str, smallest: int, **promises) -> Case:
    """A network of the catalogue."""
    promises = {"rounding": 1e-7, "gradient": 1e-3} | promises
    return listed(spec, smallest, colour=True, **promises)


def untrained(spec: str, smallest: int, backbone: str, heads: str, **promises) -> Case:
    """An LPIPS whose network no package of the test extra carries: a random draw stands in."""

    def init(key):
        drawn = BACKBONES[backbone].random_params(key)
        return {backbone: drawn, heads: jax.tree.map(jnp.asarray, pj.weights.read(heads))}

    case = deep(spec, smallest, **promises)

    def make(**options) -> Distance:
        return case.make(**options)._replace(init=init)

    return case._replace(make=make, stand_in=True)


def exact_mmd(spec: str, smallest: int, **promises) -> Case:
    """Its embedding holds the mean kernel of the image with itself."""
    return listed(spec, smallest, maps=False, at_rest=False, **({"rounding": 1e-6} | promises))


def combined(label: str, smallest: int, combine: Callable[..., Distance], **promises) -> Case:
    """A combination: `combine(part, value_range)`, where `part(spec)` is in that range."""

    def make(*, value_range=(0.0, 1.0)) -> Distance:
        return combine(lambda spec: pj.make(spec, value_range=value_range), value_range)

    return Case(label, make, smallest, bfloat16=None, **promises)


SHALLOW = "layers=('relu1_2','relu2_2')"

# Cases that others are like.
LAPLACIAN = "laplacian-pyramid(levels=2, distance='l2')"
GABOR = "gabor(window=8, stride=4)"
SWD = "swd(num_projections=16)"
GRAM_MATRICES = f"vgg16(metric='gram', {SHALLOW})"
CONTEXTUAL = f"vgg16(metric='contextual', {SHALLOW})"
SQUEEZENET = "squeezenet1_1(weights='random', layers=('fire2', 'pool3'))"

GRAM = 2e-6  # Sums over all places, squared: their rounding is that of large numbers.

CASES = {
    case.label: case
    for case in (
        listed("l1"),
        listed("l2"),
        listed("charbonnier", zero=False, least=0.999e-3),
        listed("gradient", 2),
        listed("gradient(gray=True)", 2, colour=True, bfloat16=0.09),
        listed("lp"),
        listed("fft-l1", maps=False),
        listed(LAPLACIAN, 4, maps=False, bfloat16=0.06),
        listed("lap1(levels=2)", 4, maps=False, bfloat16=0.03, like=LAPLACIAN),
        listed("gaussian-pyramid(levels=2, weights=(1, 2))", 2, maps=False),
        listed("ssim", 11),
        listed("ssim(preset='skimage')", 7, like="ssim"),
        listed("ssim(preset='tensorflow')", 11, like="ssim"),
        listed("ssim(preset='matlab')", 11, colour=True, like="ssim"),
        listed("ssim(preset='luma')", 11, colour=True, like="ssim"),
        listed("ms-ssim(levels=2)", 21, maps=False),
        listed(
            "ms-ssim(levels='auto', preset='pytorch-msssim')",
            11,
            maps=False,
            like="ms-ssim(levels=2)",
        ),
        listed("ms-ssim-l1(levels=2)", 21, maps=False),
        listed("gmsd", 3, colour=True, maps=False, always_moves=False),
        listed("patch-rbf"),
        listed("patch-rbf(padding=False, center='channel_mean', stride=2)", 3, like="patch-rbf"),
        # Where a patch is flat but for rounding, its norm is that of the rounding.
        listed(
            "patch-rbf(center='mean', unit_norm=True)",
            float32=1e-4,
            gradient=1e-3,
            like="patch-rbf",
        ),
        listed("patch-laplace", like="patch-rbf"),
        listed("patch-rbf-joint(patch_size=5)", 5, always_moves=False),
        listed("oriented-edges(window=8, stride=4)", 8, colour=True, bfloat16=0.03),
        listed(GABOR, 8, colour=True, bfloat16=0.22),
        deep("gabor(filters='alexnet', window=8, stride=4)", 8, like=GABOR),
        exact_mmd("mmd", 32),
        # The root of a squared distance's rounding, 1e-16, is as large as the step.
        exact_mmd(
            "mmd(kernel='laplace', window=None)",
            2,
            bfloat16=0.05,
            slope=0.1,
            like="mmd-multiscale(stride=3)",
        ),
        exact_mmd("mmd(kernel='arccos', patch_size=5, window=16, stride=8)", 16, like="mmd"),
        exact_mmd("mmd(kernel='multiscale', window=16)", 16, like="mmd"),
        exact_mmd("mmd-multiscale(stride=3)", 7),
        listed("mmd(kernel='linear')", 32, maps=False, rounding=1e-7),
        listed("mmd-linear", 7, maps=False, rounding=1e-6),
        listed("mmd-rff(num_features=64, window=8, stride=4)", 8, colour=True),
        listed(
            "mmd-rff(num_features=64, window=None, center='mean', padding=False)",
            3,
            colour=True,
            maps=False,
            any_sizes=True,
            rounding=1e-7,
        ),
        listed("mmd-rff(num_features=64, window=1)", 2, colour=True),
        listed("mmd++(num_features=64)", 32, colour=True),
        listed("mmd+++(num_features=64)", 32, colour=True, like="mmd++(num_features=64)"),
        listed(SWD, 7, colour=True, maps=False, any_sizes=True),
        listed(
            "swd(num_projections=16, projection='std', center='mean', power=2, stride=2)",
            7,
            colour=True,
            maps=False,
            any_sizes=True,
            like=SWD,
        ),
        listed("swd++(num_projections=16)", 11, colour=True, maps=False),
        listed("windowed-swd(num_projections=16, window=16)", 16, colour=True, maps=False),
        listed(
            "lap-swd(num_projections=16, levels=2)",
            28,
            colour=True,
            maps=False,
            any_sizes=True,
            bfloat16=0.05,
            gradient=5e-3,
        ),
        deep("vgg16", 16, bfloat16=0.03),
        deep(f"vgg16(metric='l2', {SHALLOW})", 2),
        deep(f"vgg16(metric='cosine', {SHALLOW})", 2),
        deep(
            GRAM_MATRICES,
            2,
            maps=False,
            any_sizes=True,
            bfloat16=0.02,
            rounding=GRAM,
            largest=1e4,
        ),
        deep(
            f"vgg16(metric='gram-trace', {SHALLOW})",
            2,
            like=GRAM_MATRICES,
            maps=False,
            any_sizes=True,
            bfloat16=0.07,
            rounding=GRAM,
            largest=1e4,
        ),
        deep(
            f"vgg16(metric='l1+gram', {SHALLOW})",
            2,
            maps=False,
            bfloat16=0.02,
            rounding=GRAM,
            largest=1e4,
        ),
        deep(
            CONTEXTUAL,
            2,
            maps=False,
            any_sizes=True,
            zero=False,
            least=-1.1e-5,
            symmetric=False,
            bfloat16=0.15,
        ),
        deep(f"vgg16(metric='swd', {SHALLOW})", 2, maps=False, any_sizes=True, bfloat16=0.02),
        deep(
            "contextual(layers=('relu1_2', 'relu2_2'))",
            2,
            like=CONTEXTUAL,
            maps=False,
            any_sizes=True,
            zero=False,
            least=-1.1e-5,
            symmetric=False,
            bfloat16=0.15,
        ),
        deep("dists", 1, maps=False, bfloat16=0.6),
        deep("vgg16(layers={'pixels': 2.0, 'pool1': 0.5}, preprocess='signed')", 2),
        deep(f"vgg16-random({SHALLOW})", 2, like="vgg16"),
        deep(f"vgg16-random-zero-mean({SHALLOW})", 2, like="vgg16"),
        deep("alexnet", 31, bfloat16=0.11, like="lpips-alex"),
        # Weights of these are not to be had here; their tables are tested against PyTorch.
        *(
            deep(f"{name}(weights='random', layers=('pool1',))", 2, like="vgg16")
            for name in ("vgg11", "vgg13", "vgg19")
        ),
        *(
            deep(f"{name}_bn(weights='random', layers=('relu1_1',))", 1, like="vgg16")
            for name in ("vgg11", "vgg13", "vgg16", "vgg19")
        ),
        deep(
            "squeezenet1_0(weights='random', layers=('fire2',))", 9, bfloat16=0.05, like=SQUEEZENET
        ),
        deep(SQUEEZENET, 9, bfloat16=0.05),
        deep("alexnet-random(layers=('relu1',))", 7, like="lpips-alex"),
        deep("alexnet-random-zero-mean(layers=('pool1',))", 15, bfloat16=0.02, like="lpips-alex"),
        deep("lpips-alex", 31, bfloat16=0.21),
        deep("lpips-alex(version='0.0')", 31, bfloat16=0.04, like="lpips-alex"),
        deep("lpips-alex(heads=False)", 31, bfloat16=0.14, like="lpips-alex"),
        deep("lpips-vgg", 16, bfloat16=0.06),
        untrained(
            "lpips-squeeze",
            17,
            "squeezenet1_1",
            "lpips-squeeze-v0.1",
            bfloat16=0.06,
            like="lpips-alex",
        ),
        untrained(
            "st-lpips-alex",
            13,
            "alexnet-shift-tolerant",
            "st-lpips-alex",
            bfloat16=0.21,
            like="st-lpips-vgg",
        ),
        untrained("st-lpips-vgg", 2, "vgg16-shift-tolerant", "st-lpips-vgg", bfloat16=0.06),
        combined(
            "weighted sum",
            11,
            lambda part, _: pj.weighted_sum({"l1": (0.5, part("l1")), "ssim": (2, part("ssim"))}),
        ),
        combined(
            "gaussian pyramid",
            8,
            lambda part, vr: pj.on_gaussian_pyramid(part("gradient"), 3, value_range=vr),
            maps=False,
        ),
        combined(
            "laplacian pyramid",
            4,
            lambda part, vr: pj.on_laplacian_pyramid(part("l1"), 2, [1, 4, 16], value_range=vr),
            maps=False,
        ),
        combined(
            "windows",
            12,
            lambda part, vr: pj.on_windows(part("ssim"), 12, 8, value_range=vr),
            maps=False,
        ),
        combined(
            "tiles",
            11,
            lambda part, _: pj.tiled(part("ssim"), tile=10, margin=5),
        ),
        combined(
            "resized",
            1,
            lambda part, vr: pj.on_resized(part("l2"), (20, 24), value_range=vr),
            any_sizes=True,
        ),
    )
}
