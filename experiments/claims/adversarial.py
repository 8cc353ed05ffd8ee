"""How much a change of a picture that nobody sees can move a loss, when it is chosen to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.common.choices import DISLIKED, distorted_picture
from experiments.common.data import EMBEDDED
from experiments.common.figures import panels
from experiments.common.progress import progress
from perceptual_jax._typing import Array, Params

__all__ = ["CLAIM", "attack"]

LOSSES = ("l2", "ssim", "mmd++", "vgg16", "lpips-alex", "lpips-vgg", "dists")
NETWORKS = ("vgg16", "lpips-alex", "lpips-vgg", "dists")
LEVELS = (1, 2, 4, 8)
"""By how many grey levels of 255 each number may change."""
KINDS = ("by chance", "one step", "ten steps")
_UNSEEN = 2
_HARDLY = 0.1
"""Of visible damage."""
_SHOWN = ("lpips-alex", "vgg16")


def attack(
    slope: Callable[[Array], Array], images: Array, signs: Array, reach: float, steps: int
) -> Array:
    """Images near these under which a loss is large: signed gradient steps.

    Args:
      slope: the loss's gradient, `[n, h, w, 3] -> [n, h, w, 3]`.
      images: [n, h, w, 3] in [0, 1].
      signs: [n, h, w, 3] of -1 and 1: which way each number is moved to begin with, half of the
        reach, since a distance has no slope at the images themselves.
      reach: how far each number may be moved.
      steps: how many; with one, the fast gradient sign method.

    Returns:
      [n, h, w, 3] in [0, 1], within `reach` of the images.
    """
    found = _near(images, images + 0.5 * reach * signs, reach)
    for _ in range(steps):
        found = _near(images, found + 2 * reach / steps * jnp.sign(slope(found)), reach)
    return found


def _near(images: Array, candidates: Array, reach: float) -> Array:
    return jnp.clip(jnp.clip(candidates, images - reach, images + reach), 0.0, 1.0)


def measure(setting: Setting) -> Measured:
    """Losses of unseen changes, by chance and by choice, relative to those of visible damage."""
    names = EMBEDDED[: setting.pictures]
    pictures = [distorted_picture(name, setting.size) for name in names]
    originals = jnp.stack([original for original, _ in pictures])
    damaged = [jnp.stack([distorted[kind] for _, distorted in pictures]) for kind in DISLIKED]
    signs = jax.random.rademacher(jax.random.key(setting.seed), originals.shape, originals.dtype)
    relative: dict[str, dict[str, list[float]]] = {}
    shown = [(np.asarray(originals[0]), "as it is")]
    with progress("adversarial changes", len(LOSSES) * len(LEVELS), unit="attacks") as advance:
        for spec in LOSSES:
            distance = pj.make(spec)
            params = distance.init(jax.random.key(setting.seed))
            embedded = jax.jit(distance.embed)(params, originals)
            loss = partial(_losses(distance), params, embedded)
            slope = partial(jax.jit(jax.grad(_total(distance), argnums=2)), params, embedded)
            visible = jnp.mean(jnp.stack([loss(images) for images in damaged]), axis=0)
            relative[spec] = {kind: [] for kind in KINDS}
            for level in LEVELS:
                reach = level / 255
                changed = {
                    "by chance": _near(originals, originals + reach * signs, reach),
                    "one step": attack(slope, originals, signs, reach, 1),
                    "ten steps": attack(slope, originals, signs, reach, 10),
                }
                for kind, images in changed.items():
                    value = np.mean(np.asarray(loss(images) / visible), dtype=np.float64)
                    relative[spec][kind].append(float(value))
                if spec in _SHOWN and level == _UNSEEN:
                    count = float(loss(images)[0] / visible[0])
                    caption = f"{level} levels, chosen against {spec}: counts {count:.2f}"
                    shown.append((np.asarray(images[0]), caption))
                advance()
    shown += [
        (np.asarray(images[0]), f"{kind}: visible damage")
        for kind, images in zip(DISLIKED, damaged, strict=True)
    ]
    return Measured({"levels": list(LEVELS), "relative": relative}, {names[0]: shown})


def _losses(distance: pj.Distance) -> Callable[[Params, Any, Array], Array]:
    def losses(params: Params, embedded: Any, images: Array) -> Array:
        return distance.compare(params, embedded, distance.embed(params, images))

    return jax.jit(losses)


def _total(distance: pj.Distance) -> Callable[[Params, Any, Array], Array]:
    losses = _losses(distance)
    return lambda params, embedded, images: losses(params, embedded, images).sum()


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether what nobody sees counts hardly anything, network by network."""
    place = numbers["levels"].index(_UNSEEN)
    chosen = [numbers["relative"][name]["ten steps"][place] for name in NETWORKS]
    return verdict_on([value < _HARDLY for value in chosen])


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """Every loss against the reach, by choice and by chance."""
    figure, (axes,) = panels(size=(8, 4))
    for place, (name, kinds) in enumerate(numbers["relative"].items()):
        for kind, style in (("ten steps", "-"), ("by chance", ":")):
            label = name if kind == "ten steps" else None
            axes.plot(numbers["levels"], kinds[kind], style, color=f"C{place}", label=label)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(
        xlabel="each number changed by up to, of 255",
        ylabel="loss / loss of visible damage",
        yscale="log",
        xscale="log",
        xticks=numbers["levels"],
        xticklabels=[str(level) for level in numbers["levels"]],
    )
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return (
        figure,
        "Losses of small changes, chosen (lines) and by chance (dots)",
    )


def table(numbers: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Losses by chance, by one step and by ten, at every reach."""
    rows = [
        [f"{name}, {kind}", *(f"{value:.3f}" for value in values)]
        for name, kinds in numbers["relative"].items()
        for kind, values in kinds.items()
    ]
    return ["loss / visible damage", *(f"{level} of 255" for level in numbers["levels"])], rows


CLAIM = Claim(
    says="Perceptual losses are robust: a change that nobody sees hardly moves them, even one that "
    "is chosen to.",
    how="Every number of a photograph is changed by up to 1, 2, 4 and 8 of 255: by chance, by one "
    "step along the sign of the loss's own gradient, and by ten. Each loss is divided by what it "
    f"gives to visible damage ({', '.join(DISLIKED)}, at a root mean square difference of 14 of "
    "255): 1 means that it takes what nobody sees for that.",
    rule=f"Holds if ten steps of at most {_UNSEEN} of 255 count less than {_HARDLY:g} for every "
    "loss on networks; in part if for some.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=table,
    source="I. Goodfellow, J. Shlens, C. Szegedy, Explaining and Harnessing Adversarial Examples, "
    "ICLR 2015; M. Kettunen, E. Harkonen, J. Lehtinen, E-LPIPS, 2019",
)
