"""What of an image a layer still knows: an image made from noise until its features match.

    min over z of |f(z) - f(x)|^2 / |f(grey) - f(x)|^2 + weight * total_variation(z)

Layer by layer, under trained and random weights, before and after the ReLU. What comes back is
what the layer keeps; what differs from the image is what it does not see. The unknowns are Fourier
coefficients: free pixels give noise that a deep layer cannot tell from the image.

    perceptual-jax invert                              # an embedded image, VGG-16
    perceptual-jax invert --preset quick               # about a minute
    perceptual-jax invert --network alexnet --image photo.png
    perceptual-jax invert --layers conv1_2 pool3 --relu before --weights trained

References:
  A. Mahendran, A. Vedaldi, "Understanding Deep Image Representations by Inverting Them",
  CVPR 2015, https://arxiv.org/abs/1412.0035
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.data import named_picture
from experiments.common.figures import panels
from experiments.common.loop import interruptible
from experiments.common.networks import Weights, after_relu, before_relu, distance_of
from experiments.common.optimise import (
    Descent,
    Problem,
    Schedule,
    adam_descent,
    descend,
    lbfgs_descent,
)
from experiments.common.options import check_bounds
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.spectrum import image_of, noise_spectrum
from perceptual_jax._typing import Array, Params
from perceptual_jax.backbones import BACKBONES, PIXELS
from perceptual_jax.distances.features import features
from perceptual_jax.errors import InputError, choice
from perceptual_jax.statistics import psnr

__all__ = ["PRESETS", "Config", "Inversion", "layers_of", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax invert`."""

    network: str = "vgg16"
    """A network: vgg16, alexnet, vgg19, squeezenet1_1, ... (`perceptual-jax weights list`)."""
    weights: tuple[Weights, ...] = ("trained", "random", "random-zero-mean")
    """Kinds of weights: trained, random, or random and every filter of the first layer without
    its mean."""
    layers: tuple[str, ...] = ()
    """Its layers, "conv1_2" or "pool3"; by default the last convolution of every block."""
    relu: Literal["before", "after", "both"] = "both"
    """Match what goes into the ReLU that follows a layer, what comes out of it, or each in turn."""
    image: str = "chelsea"
    """An image file, or an embedded picture: astronaut, chelsea, coffee, rocket, motorcycle."""
    size: int = 96
    """The image is its centre square, resized to this side, in pixels."""
    steps: int = 120
    """Of the optimiser, for every layer and kind of weights."""
    optimiser: Literal["adam", "lbfgs"] = "adam"
    """Adam, or L-BFGS, each of whose steps takes several passes of the network."""
    learning_rate: float = 0.05
    """Of the first steps of Adam; it falls to an eighth."""
    total_variation: float = 0.05
    """The weight of the total variation: more is smoother."""
    snapshot_every: int = 40
    """Save a checkpoint and log metrics every so many steps."""
    seed: int = 0
    """Of the noise that all begin with, and of random weights."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        weights=("trained", "random"),
        layers=("conv1_2", "conv2_2", "conv5_3"),
        relu="before",
        size=96,
        steps=80,
        snapshot_every=40,
    ),
    "default": Config(),
    "paper": Config(size=224, steps=1000, snapshot_every=200),
}

_JUDGE = "lpips-alex"


class Inversion(NamedTuple):
    """What came back from a layer.

    Attributes:
      image: [size, size, 3] in [0, 1].
      psnr: to the image, in dB.
      lpips: likewise, by LPIPS on AlexNet.
      loss: of the features, relative to that of a grey image.
    """

    image: np.ndarray
    psnr: float
    lpips: float
    loss: float


# --- The method ----------------------------------------------------------------------------


def descent_on(config: Config, distance: pj.Distance) -> Descent:
    """Descent on the loss, whose context is (params, what the features shall be)."""

    def loss(context: tuple[Params, dict[str, Any]], spectrum: Array) -> dict[str, Array]:
        params, own = context
        images = image_of(spectrum, config.size)
        apart = distance.compare(params, distance.embed(params, images), own["target"])
        return {
            "features": apart / own["of grey"],
            "total variation": config.total_variation * pj.total_variation(images),
        }

    if config.optimiser == "lbfgs":
        return lbfgs_descent(loss, bounds="none")
    return adam_descent(
        loss,
        learning_rate=config.learning_rate,
        decay=0.9,
        decay_every=max(1, config.steps // 20),
        bounds="none",
    )


def context_of(distance: pj.Distance, params: Params, image: Array) -> tuple[Params, dict]:
    """What a descent needs: the params, the image's features, and how far those of grey are."""
    grey = jnp.full_like(image, 0.5)

    @jax.jit
    def embedded(params: Params, image: Array) -> dict[str, Any]:
        target = distance.embed(params, image)
        of_grey = distance.compare(params, distance.embed(params, grey), target)
        return {"target": target, "of grey": jnp.maximum(of_grey, 1e-12)}

    return params, embedded(params, image)


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[str, dict[str, Inversion]]:
    """Inverts every layer under every kind of weights, and writes the run's folder.

    Returns:
      `{weights: {layer: Inversion}}`.

    Raises:
      InputError: for options that cannot be used, missing weights, an unreadable image.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("invert", config)
    check(config)
    image = named_picture("--image", config.image, config.size)[None]
    kinds = {kind: distance_of(config.network, kind) for kind in config.weights}
    judge = pj.make(_JUDGE)
    folder = start("invert", config, distances=[*kinds.values(), judge])
    judged = jax.jit(judge.__call__)
    judge_params = judge.init(jax.random.key(0))
    found: dict[str, dict[str, Inversion]] = {kind: {} for kind in kinds}
    with interruptible() as asked_to_stop:
        params = {
            kind: next(iter(distance.init(jax.random.key(config.seed)).values()))
            for kind, distance in kinds.items()
        }
        for layer in layers_of(config):
            # One program serves all kinds of weights: they differ in numbers alone.
            distance = features(backbone=config.network, layers=(layer,), metric="l2")
            descent = descent_on(config, distance)
            for kind in kinds:
                images, loss = invert(
                    config,
                    descent,
                    context_of(distance, {config.network: params[kind]}, jnp.asarray(image)),
                    {"weights": kind, "layer": layer},
                    folder,
                    asked_to_stop,
                )
                found[kind][layer] = Inversion(
                    images[0],
                    psnr(images[0], image[0], most=100.0),
                    float(judged(judge_params, images, image)[0]),
                    loss,
                )
    _write(config, folder, image[0], found)
    return found


def invert(
    config: Config,
    descent: Descent,
    context: tuple[Params, dict],
    label: dict[str, str],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, float]:
    """One descent from noise, or from its last checkpoint: images [1, h, w, 3] and the loss."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    result = descend(
        Problem(descent, lambda draw: context),
        noise_spectrum(key, 1, config.size),
        Schedule(config.steps, config.snapshot_every),
        label=label,
        folder=folder,
        asked_to_stop=asked_to_stop,
    )
    images = np.asarray(image_of(jnp.asarray(result.images), config.size))
    return images, float(result.metrics[-1]["terms"]["features"][0])


def layers_of(config: Config) -> tuple[str, ...]:
    """The layers inverted: those named, on the sides of the ReLU asked for, in the net's order."""
    network = BACKBONES[config.network]
    named = config.layers or after_relu(config.network)
    before = [before_relu(network, layer) for layer in named]
    following = dict(zip(network.layer_names, network.layer_names[1:], strict=False))
    after = [
        following[layer]
        if following.get(layer, layer) != layer and before_relu(network, following[layer]) == layer
        else layer
        for layer in before
    ]
    wanted = {"before": before, "after": after, "both": [*before, *after]}[config.relu]
    return tuple(layer for layer in network.layer_names if layer in wanted)


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    choice("--network", config.network, BACKBONES)
    bounds = {
        **{"steps": (1, 10**6), "snapshot_every": (1, 10**6), "size": (64, 4096)},
        **{"learning_rate": (1e-9, 1e3), "total_variation": (0, 1e6), "seed": (0, 2**31 - 1)},
    }
    check_bounds(config, bounds)
    if not config.weights or len(set(config.weights)) < len(config.weights):
        raise InputError(
            f"--weights must name one or more, each once; got {', '.join(config.weights)}"
        )
    network = BACKBONES[config.network]
    if config.layers:
        network.checked_layers(config.layers)
    if PIXELS in config.layers:
        raise InputError(f"--layers: {PIXELS} is the image itself; name layers of the network")
    smallest = network.smallest_input(layers_of(config))
    if config.size < smallest:
        raise InputError(f"--size must be at least {smallest} for these layers; got {config.size}")


# --- The page ------------------------------------------------------------------------------


def _write(
    config: Config,
    folder: RunFolder,
    image: np.ndarray,
    found: dict[str, dict[str, Inversion]],
) -> None:
    """Pictures, results.json and the report."""
    network = BACKBONES[config.network]
    layers = layers_of(config)
    sides = {
        "Before the ReLU": [x for x in layers if before_relu(network, x) == x],
        "After the ReLU": [x for x in layers if before_relu(network, x) != x],
    }
    report = Report(
        f"What of an image the layers of {config.network} know",
        "Each picture began as noise and was changed until one layer answered to it as to the "
        "original. Early layers keep everything; deep layers keep what there is, and about where. "
        "PSNR counts pixels (more is nearer), LPIPS sees as people do (less is nearer).",
    )
    for side, names in sides.items():
        if not names:
            continue
        rows = {
            kind: [
                (image, "original"),
                *(
                    (each[x].image, f"{x} · {each[x].psnr:.1f} dB · LPIPS {each[x].lpips:.2f}")
                    for x in names
                ),
            ]
            for kind, each in found.items()
        }
        report.heading(side)
        report.pictures(rows)
        file = side.lower().replace(" ", "-").replace("the-", "")
        grid = pj.images.grid([[each for each, _ in row] for row in rows.values()])
        folder.write_image(f"{file}.png", grid, rows=rows, columns=["original", *names])
    report.heading("Layer by layer")
    report.figure(curves(found), "PSNR and LPIPS to the original against layers")
    report.table(
        ["weights", "layer", "PSNR (dB)", "LPIPS", "features' loss"],
        [
            [kind, layer, f"{x.psnr:.2f}", f"{x.lpips:.3f}", f"{x.loss:.2g}"]
            for kind, each in found.items()
            for layer, x in each.items()
        ],
    )
    report.text(
        "The loss is the squared distance of the features, relative to that of a grey image: where "
        "it is small and the picture still differs, the layer does not see the difference; where "
        "it is not, more steps would bring more back."
    )
    report.how_it_was_made(config)
    folder.write_json(
        "results.json",
        {
            kind: {
                layer: {"psnr": x.psnr, "lpips": x.lpips, "loss": x.loss}
                for layer, x in each.items()
            }
            for kind, each in found.items()
        },
    )
    report.write(folder.path / "report.html")
    for kind, each in found.items():
        shown = ", ".join(f"{x} {v.psnr:.1f} dB {v.lpips:.2f}" for x, v in each.items())
        console.print(f"{kind} (PSNR, LPIPS): {shown}")
    console.print(f"report: {folder.path / 'report.html'}")


def curves(found: dict[str, dict[str, Inversion]]) -> Figure:
    """PSNR and LPIPS of every kind of weights against layers."""
    figure, (left, right) = panels(2)
    for kind, each in found.items():
        left.plot(list(each), [x.psnr for x in each.values()], "o-", label=kind)
        right.plot(list(each), [x.lpips for x in each.values()], "o-", label=kind)
    left.set(ylabel="PSNR to the original (dB)")
    right.set(ylabel="LPIPS to the original")
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=45)
    return figure
