"""Every distance by name: the one place that says what there is.

A new family joins by adding lines to `_ENTRIES`; a distance of somebody's own by `register`.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from perceptual_jax._sums import LONGEST, is_sum, read_sum, sum_of
from perceptual_jax.distance import Distance
from perceptual_jax.distances.contextual import contextual
from perceptual_jax.distances.dists import dists
from perceptual_jax.distances.edges import gabor, oriented_edges
from perceptual_jax.distances.features import features
from perceptual_jax.distances.gmsd import gmsd
from perceptual_jax.distances.learned import ENDING, learned
from perceptual_jax.distances.lpips import lpips, st_lpips
from perceptual_jax.distances.mmd import mmd, mmd_linear, mmd_multiscale
from perceptual_jax.distances.mmd_features import mmd_plus_plus, mmd_plus_plus_plus, mmd_rff
from perceptual_jax.distances.multiscale import ms_ssim, ms_ssim_l1
from perceptual_jax.distances.patches import patch_laplace, patch_rbf, patch_rbf_joint
from perceptual_jax.distances.pixel import charbonnier, fft_l1, gradient, l1, l2, lp
from perceptual_jax.distances.pyramids import gaussian_pyramid, lap1, laplacian_pyramid
from perceptual_jax.distances.structural import ssim
from perceptual_jax.distances.wasserstein import lap_swd, swd, swd_plus_plus, windowed_swd
from perceptual_jax.errors import InputError, nearest, shortened

__all__ = ["Entry", "entry", "make", "names", "parse", "register"]


class Entry(NamedTuple):
    """A name of the catalogue.

    Attributes:
      name: what `make` is given.
      factory: makes the distance; its keyword options are the entry's.
      description: one line: what it embeds and how it compares.
      fixed: options that the name stands for.
    """

    name: str
    factory: Callable[..., Distance]
    description: str
    fixed: Mapping[str, Any] = MappingProxyType({})

    @property
    def options(self) -> dict[str, Any]:
        """The options a user may set, with their defaults."""
        parameters = inspect.signature(self.factory).parameters
        return {
            option: parameter.default
            for option, parameter in parameters.items()
            if option != "name" and option not in self.fixed
        }


def _network(name: str, description: str, **fixed: str) -> Entry:
    """Features of a network; its catalogue name begins with the network's."""
    return Entry(name, features, description, {"backbone": name.split("-")[0], **fixed})


_ENTRIES = {
    entry.name: entry
    for entry in (
        # Pixels
        Entry("l1", l1, "mean absolute difference of pixels in [-1, 1]: twice that of [0, 1]"),
        Entry("l2", l2, "mean squared difference of pixels in [-1, 1]: four times that of [0, 1]"),
        Entry("charbonnier", charbonnier, "smooth l1 of pixels"),
        Entry("lp", lp, "mean power of the difference of pixels"),
        Entry("gradient", gradient, "l1 of horizontal and vertical differences"),
        Entry("fft-l1", fft_l1, "l1 of Fourier spectra"),
        Entry("laplacian-pyramid", laplacian_pyramid, "a distance of each band of a pyramid"),
        Entry("lap1", lap1, "l1 of each band of a Laplacian pyramid, the loss of GLO"),
        Entry("gaussian-pyramid", gaussian_pyramid, "a distance at each of several sizes"),
        # Structure
        Entry("ssim", ssim, "1 - structural similarity in local windows"),
        Entry("ms-ssim", ms_ssim, "1 - structural similarity at several sizes"),
        Entry("ms-ssim-l1", ms_ssim_l1, "MS-SSIM for contrast and l1 for colour"),
        Entry("gmsd", gmsd, "deviation of the similarity of gradient magnitudes"),
        # Patches
        Entry("patch-rbf", patch_rbf, "Gaussian kernel of patches at the same place"),
        Entry("patch-laplace", patch_laplace, "Laplacian kernel of patches at the same place"),
        Entry("patch-rbf-joint", patch_rbf_joint, "kernel of whole patches at the same place"),
        Entry("oriented-edges", oriented_edges, "edges of two directions, window by window"),
        Entry("gabor", gabor, "stripes of eight directions, window by window"),
        # Patch distributions
        Entry("mmd", mmd, "exact MMD of the patches of windows"),
        Entry("mmd-multiscale", mmd_multiscale, "exact MMD of all patches, many bandwidths"),
        Entry("mmd-linear", mmd_linear, "squared distance of mean patches"),
        Entry("mmd-rff", mmd_rff, "MMD of the patches of windows by random features"),
        Entry("mmd++", mmd_plus_plus, "mmd-rff with a little l2 and patch-rbf"),
        Entry("mmd+++", mmd_plus_plus_plus, "mmd++ of finer bandwidths and larger patches"),
        Entry("swd", swd, "sliced Wasserstein distance of patches"),
        Entry("swd++", swd_plus_plus, "swd with a little l2 and patch-rbf"),
        Entry(
            "windowed-swd", windowed_swd, "sliced Wasserstein distance of the patches of windows"
        ),
        Entry("lap-swd", lap_swd, "sliced Wasserstein distance of each band of a pyramid"),
        # Deep features
        _network("vgg11", "trained VGG-11 features"),
        _network("vgg13", "trained VGG-13 features"),
        _network("vgg16", "trained VGG-16 features"),
        _network("vgg19", "trained VGG-19 features"),
        _network("vgg11_bn", "features of VGG-11 trained with batch normalisation"),
        _network("vgg13_bn", "features of VGG-13 trained with batch normalisation"),
        _network("vgg16_bn", "features of VGG-16 trained with batch normalisation"),
        _network("vgg19_bn", "features of VGG-19 trained with batch normalisation"),
        _network("vgg16-random", "features of a random VGG-16", weights="random"),
        _network(
            "vgg16-random-zero-mean",
            "features of a random VGG-16 whose first filters have zero mean",
            weights="random-zero-mean",
        ),
        _network("alexnet", "trained AlexNet features"),
        _network("alexnet-random", "features of a random AlexNet", weights="random"),
        _network(
            "alexnet-random-zero-mean",
            "features of a random AlexNet whose first filters have zero mean",
            weights="random-zero-mean",
        ),
        _network("squeezenet1_0", "trained SqueezeNet 1.0 features"),
        _network("squeezenet1_1", "trained SqueezeNet 1.1 features"),
        Entry("contextual", contextual, "nearest trained features, wherever they are"),
        Entry("lpips-alex", lpips, "LPIPS on AlexNet: learned heads", {"net": "alex"}),
        Entry("lpips-vgg", lpips, "LPIPS on VGG-16: learned heads", {"net": "vgg"}),
        Entry("lpips-squeeze", lpips, "LPIPS on SqueezeNet 1.1: learned heads", {"net": "squeeze"}),
        Entry(
            "st-lpips-alex", st_lpips, "LPIPS on an AlexNet that tolerates shifts", {"net": "alex"}
        ),
        Entry("st-lpips-vgg", st_lpips, "LPIPS on a VGG-16 that tolerates shifts", {"net": "vgg"}),
        Entry("dists", dists, "structure and texture of VGG-16 features, learned weights"),
    )
}


_OWN = frozenset(_ENTRIES)
_NAME = re.compile(r"[a-z][a-z0-9_+-]*")


def register(name: str, factory: Callable[..., Distance], description: str) -> None:
    """Adds a distance of your own to the catalogue of this process.

    Afterwards `make` knows its name and its options, as do commands that are run from Python. Said
    again of the same name, the later factory counts. examples/custom_distance.py has one.

    Args:
      name: what `make` is to be given: small letters, digits, "-", "_" and "+".
      factory: makes the distance. Its arguments are `name`, the distance's own, and its options,
        each with a default; literals of Python can stand for them.
      description: one line: what it embeds and how it compares.

    Raises:
      InputError: for another kind of name, one that this library has given, or a factory that does
        not take its arguments so.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            "a distance's name is of small letters, digits, '-', '_' and '+', and begins with a "
            f"letter; got {shortened(repr(name))}"
        )
    if name in _OWN:
        raise InputError(f"{name!r} is a distance of the catalogue: register yours by another name")
    parameters = inspect.signature(factory).parameters
    takes = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    for argument in ("name", *parameters):
        given = parameters.get(argument)
        if given is None or given.kind not in takes or given.default is inspect.Parameter.empty:
            raise InputError(
                f"{name}: the factory must take {argument!r} as a keyword with a default"
            )
    _ENTRIES[name] = Entry(name, factory, description)


_FOUND_FROM = {
    "psnr": "in dB it is 10 log10(4 / l2), for l2 is of images in [-1, 1]",
    "mse": "it is l2 / 4, for l2 is of images in [-1, 1]",
    "mae": "it is l1 / 2, for l1 is of images in [-1, 1]",
    "lpips": "there are lpips-alex, lpips-vgg and lpips-squeeze",
}
"""Names that people look for."""


def names() -> tuple[str, ...]:
    """The names of all distances."""
    return tuple(_ENTRIES)


def entry(name: str) -> Entry:
    """The catalogue's line for a name.

    Raises:
      InputError: for an unknown name; it suggests the nearest.
    """
    if name not in _ENTRIES:
        added = {part.rpartition("*")[2].strip() for part in name.split("+")} - {""}
        hint = f"{nearest(name, _ENTRIES)}; `perceptual-jax list` and pj.names() say what there is"
        if len(added) > 1 and added <= {*_ENTRIES}:
            hint = ': leave spaces about the + of a sum, "l1 + 0.2 * lpips-vgg"'
        elif name == "+":
            hint = ': quote a sum, "l1 + 0.2 * lpips-vgg"'
        elif name.lower() in _FOUND_FROM:
            hint = f": {_FOUND_FROM[name.lower()]}"
        raise InputError(f"there is no distance {shortened(name)!r}{hint}")
    return _ENTRIES[name]


def make(spec: str, **options: Any) -> Distance:
    """Makes a distance of the catalogue.

    Args:
      spec: a name, `"vgg16"`, or a call, `"vgg16(metric='l2', layers=('relu3_3',))"`; the values
        in a call are Python literals and are never evaluated. Or a file of a learned distance,
        `"metric.safetensors"`, whose options are those of the distance it was trained on. Or a
        sum of them, `"l1 + 0.1 * lpips-vgg"`, with the weights of all but the first.
      **options: the factory's options; `entry(name).options` lists them. Of a sum, those of
        every part.

    Returns:
      The distance. Its name is the canonical spec: the options that differ from their
      defaults, in alphabetical order. A sum's terms have its parts' names.

    Raises:
      InputError: for a malformed spec, an unknown name or option (it suggests the nearest),
        an option given twice, or a value the factory refuses; for a sum in which a weight is
        missing or a part comes twice.

    Example:
      >>> import perceptual_jax as pj
      >>> pj.make("gradient").name
      'gradient'
      >>> pj.make("gradient", gray=True).name == pj.make("gradient(gray=True)").name
      True
      >>> pj.make("gradeint")
      Traceback (most recent call last):
      ...
      perceptual_jax.errors.InputError: there is no distance 'gradeint', did you mean \
'gradient'?; ...
    """
    if isinstance(spec, str) and is_sum(spec):
        return _make_sum(spec, options)
    name, in_spec = parse(spec)
    if name.endswith(ENDING):
        return _make_learned(name, {**in_spec, **options})
    line = entry(name)
    twice = sorted(set(in_spec) & set(options))
    if twice:
        raise InputError(f"{name}: {twice[0]} is given both in the spec and as a keyword")
    given = {**in_spec, **options}
    known = line.options
    for option in given:
        if option not in known:
            raise InputError(
                f"{name} has no option {option!r}{nearest(option, known)}; "
                f"it has: {', '.join(known)}"
            )
        if isinstance(known[option], bool) and not isinstance(given[option], bool):
            raise InputError(f"{name}: {option} must be True or False; got {given[option]!r}")
    try:
        canonical = {option: _canonical(value, known[option]) for option, value in given.items()}
        changed = {o: v for o, v in sorted(canonical.items()) if v != known[o]}
        arguments = ", ".join(f"{option}={value!r}" for option, value in changed.items())
        full_name = f"{name}({arguments})" if changed else name
        return line.factory(name=full_name, **line.fixed, **canonical)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{name}: an option has a value of the wrong kind: {error}") from error


def _make_sum(text: str, options: dict[str, Any]) -> Distance:
    first, *others = read_sum(text)
    for part in others:
        if part.weight is None:
            raise InputError(
                f"{shortened(text)!r}: {shortened(part.spec)!r} needs a weight, as in "
                f"'l1 + 0.1 * {shortened(part.spec)}'; only commands that train networks weigh "
                "parts themselves"
            )
    parts: dict[str, tuple[float, Distance]] = {}
    for weight, spec in (first, *others):
        distance = make(spec, **options)
        if distance.name in parts:
            raise InputError(f"{shortened(text)!r} has {distance.name} twice: add their weights")
        parts[distance.name] = (1.0 if weight is None else weight, distance)
    return sum_of(parts)


def _make_learned(file: str, options: dict[str, Any]) -> Distance:
    arguments = ", ".join(f"{option}={value!r}" for option, value in sorted(options.items()))

    def trunk(spec: str) -> Distance:
        # Nor as a part of it: a file may not lead to others, or back to itself.
        if ENDING in spec:
            raise InputError(f"{file} is trained on {shortened(spec)}, another learned distance")
        try:
            return make(spec, **options)
        except InputError as error:
            raise InputError(f"{file} is trained on {shortened(spec)!r}: {error}") from None

    return learned(file, f"{file}({arguments})" if arguments else file, trunk)


_COMMAS = re.compile(r",(?![^(]*\))")
"""Commas outside of brackets, but for some after brackets within brackets."""


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Splits `"name(option=literal, ...)"` into the name and its options.

    Raises:
      InputError: if the spec is not of that form.

    Example:
      >>> from perceptual_jax.catalogue import parse
      >>> parse("mmd-rff(patch_size=7, sigma=0.03)")
      ('mmd-rff', {'patch_size': 7, 'sigma': 0.03})
    """
    if not isinstance(spec, str):
        raise InputError(f"a distance is named by a string; got {type(spec).__name__}")
    listed = _COMMAS.split(spec) if len(spec) <= LONGEST else []
    several = [part.strip() for part in listed if part.strip()]
    if len(listed) > 1 and several and {part.partition("(")[0] for part in several} <= {*_ENTRIES}:
        raise InputError(
            f"{spec!r} has commas: separate distances by spaces, as in: {' '.join(several)}"
        )
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, {}
    wanted = "a spec is 'name' or 'name(option=literal, ...)'"
    if len(spec) > LONGEST:
        raise InputError(f"{wanted}, of at most {LONGEST} characters; got {len(spec)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)  # Of `1if`, or an unknown escape.
            call = ast.parse(f"_({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("only keyword options")
        options: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                raise ValueError("no ** in a spec")
            if keyword.arg in options:
                raise ValueError(f"{keyword.arg} is given twice")
            options[keyword.arg] = ast.literal_eval(keyword.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        if reason.startswith("malformed node"):  # Of what is no literal: a bare word, most often.
            reason = "values are literals of Python, text stands in quotes: metric='l2'"
        raise InputError(f"{wanted}; got {spec!r}: {reason}") from None
    return name.strip(), options


def _canonical(value: Any, default: Any = None) -> Any:
    """The literal that stands for an option's value in a name; floats where the default is one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(value, jax.lax.Precision):
        return value.name.lower()
    if isinstance(value, (list, tuple)):
        alike = default if isinstance(default, tuple) and len(default) == len(value) else value
        return tuple(_canonical(item, like) for item, like in zip(value, alike, strict=True))
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (np.dtype, type)):
        return np.dtype(value).name
    return value
