"""Every distance by name: the one place that says what there is.

A new family joins by adding lines to `_ENTRIES`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from perceptual_jax.distance import Distance
from perceptual_jax.distances.features import features
from perceptual_jax.distances.lpips import lpips
from perceptual_jax.distances.pixel import charbonnier, gradient, l1, l2
from perceptual_jax.distances.structural import ssim
from perceptual_jax.errors import InputError, nearest

__all__ = ["Entry", "entry", "make", "names", "parse"]


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


_ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("l1", l1, "mean absolute difference of pixels"),
        Entry("l2", l2, "mean squared difference of pixels"),
        Entry("charbonnier", charbonnier, "smooth l1 of pixels"),
        Entry("gradient", gradient, "l1 of horizontal and vertical differences"),
        Entry("ssim", ssim, "1 - structural similarity in local windows"),
        Entry("vgg11", features, "trained VGG-11 features", {"backbone": "vgg11"}),
        Entry("vgg13", features, "trained VGG-13 features", {"backbone": "vgg13"}),
        Entry("vgg16", features, "trained VGG-16 features", {"backbone": "vgg16"}),
        Entry("vgg19", features, "trained VGG-19 features", {"backbone": "vgg19"}),
        Entry(
            "vgg11_bn",
            features,
            "features of VGG-11 trained with batch normalisation",
            {"backbone": "vgg11_bn"},
        ),
        Entry(
            "vgg13_bn",
            features,
            "features of VGG-13 trained with batch normalisation",
            {"backbone": "vgg13_bn"},
        ),
        Entry(
            "vgg16_bn",
            features,
            "features of VGG-16 trained with batch normalisation",
            {"backbone": "vgg16_bn"},
        ),
        Entry(
            "vgg19_bn",
            features,
            "features of VGG-19 trained with batch normalisation",
            {"backbone": "vgg19_bn"},
        ),
        Entry(
            "vgg16-random",
            features,
            "features of a random VGG-16",
            {"backbone": "vgg16", "weights": "random"},
        ),
        Entry(
            "vgg16-random-zero-mean",
            features,
            "features of a random VGG-16 whose first filters have zero mean",
            {"backbone": "vgg16", "weights": "random-zero-mean"},
        ),
        Entry("alexnet", features, "trained AlexNet features", {"backbone": "alexnet"}),
        Entry(
            "alexnet-random",
            features,
            "features of a random AlexNet",
            {"backbone": "alexnet", "weights": "random"},
        ),
        Entry(
            "alexnet-random-zero-mean",
            features,
            "features of a random AlexNet whose first filters have zero mean",
            {"backbone": "alexnet", "weights": "random-zero-mean"},
        ),
        Entry(
            "squeezenet1_0",
            features,
            "trained SqueezeNet 1.0 features",
            {"backbone": "squeezenet1_0"},
        ),
        Entry(
            "squeezenet1_1",
            features,
            "trained SqueezeNet 1.1 features",
            {"backbone": "squeezenet1_1"},
        ),
        Entry(
            "lpips-alex", lpips, "LPIPS on AlexNet: unit features, learned heads", {"net": "alex"}
        ),
        Entry("lpips-vgg", lpips, "LPIPS on VGG-16: unit features, learned heads", {"net": "vgg"}),
        Entry(
            "lpips-squeeze",
            lpips,
            "LPIPS on SqueezeNet 1.1: unit features, learned heads",
            {"net": "squeeze"},
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names of all distances."""
    return tuple(_ENTRIES)


def entry(name: str) -> Entry:
    """The catalogue's line for a name.

    Raises:
      InputError: for an unknown name; it suggests the nearest.
    """
    if name not in _ENTRIES:
        raise InputError(
            f"there is no distance {name!r}{nearest(name, _ENTRIES)}; known: {', '.join(_ENTRIES)}"
        )
    return _ENTRIES[name]


def make(spec: str, **options: Any) -> Distance:
    """Makes a distance of the catalogue.

    Args:
      spec: a name, `"vgg16"`, or a call, `"vgg16(metric='l2', layers=('relu3_3',))"`; the values
        in a call are Python literals and are never evaluated.
      **options: the factory's options; `entry(name).options` lists them.

    Returns:
      The distance. Its name is the canonical spec: the options that differ from their
      defaults, in alphabetical order.

    Raises:
      InputError: for a malformed spec, an unknown name or option (it suggests the nearest),
        an option given twice, or a value the factory refuses.

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
'gradient'?; known: ...
    """
    name, in_spec = parse(spec)
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


_LONGEST_SPEC = 2000


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
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, {}
    wanted = "a spec is 'name' or 'name(option=literal, ...)'"
    if len(spec) > _LONGEST_SPEC:
        raise InputError(f"{wanted}, of at most {_LONGEST_SPEC} characters; got {len(spec)}")
    try:
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
