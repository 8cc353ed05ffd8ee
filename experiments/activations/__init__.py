"""One page to look at what a network sees.

The feature maps of an image, or of a prediction beside its ground truth; the patches that a channel
answers to most, and what in them it answers to (guided backpropagation); patches drawn to please
it; and the patches that several distances find nearest to one.

    perceptual-jax activations                               # embedded images, VGG-16
    perceptual-jax activations --preset quick                # about a minute
    perceptual-jax activations --network alexnet --weights random
    perceptual-jax activations --image truth.png --prediction mine.png --data my/photos
    perceptual-jax activations --layers relu4_3 --channels 8 177

References:
  M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from experiments.activations import sections
from experiments.activations.config import (
    PRESETS,
    Config,
    Inputs,
    check,
    check_patches,
    layers_of,
    read_inputs,
)
from experiments.activations.sections import Section
from experiments.activations.units import Network, varied_channels, without_border
from experiments.common.networks import distance_of
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, start
from perceptual_jax.backbones import BACKBONES, Backbone

__all__ = ["PRESETS", "Config", "run"]


def run(config: Config) -> dict[str, Any]:
    """Makes the page.

    Returns:
      What `results.json` holds: for every section its numbers.

    Raises:
      InputError: for options that cannot be used, missing weights and unreadable images.
    """
    check(config)
    distance = distance_of(config.network, config.weights)
    compared = [pj.make(spec) for spec in config.distances] if config.queries else []
    check_patches(config, compared)
    inputs = read_inputs(config)
    folder = start("activations", config, distances=[distance, *compared])
    with folder.discarded_on_error():
        (params,) = distance.init(jax.random.key(config.seed)).values()
        network = Network(BACKBONES[config.network], params)
        channels = _channels(config, network, inputs.image)
        found = [
            sections.feature_maps(network, inputs, channels),
            *_of_channels(config, network, inputs, channels),
        ]
        if compared:
            found.append(
                sections.nearest_patches(
                    compared,
                    inputs,
                    queries=config.queries,
                    neighbours=config.neighbours,
                    side=config.patch_side,
                    stride=config.patch_stride,
                    seed=config.seed,
                )
            )
        fields = {layer: network.backbone.receptive_field(layer) for layer in channels}
        results = {section.file: section.numbers for section in found}
        results["receptive-fields"] = {layer: field._asdict() for layer, field in fields.items()}
        folder.write_json("results.json", results)
        _write(config, folder, network.backbone, found)
    console.print(f"report: {folder.path / 'report.html'}")
    return results


def _of_channels(
    config: Config, network: Network, inputs: Inputs, channels: dict[str, list[int]]
) -> list[Section]:
    found = [
        sections.strongest_patches(
            network, inputs, channels, count=config.patches, at_once=config.images_at_once
        ),
        sections.sources(network, inputs.image, channels),
    ]
    if config.steps:
        found.insert(
            1,
            sections.drawn_patches(
                network,
                channels,
                steps=config.steps,
                learning_rate=config.learning_rate,
                smoothness=config.smoothness,
                seed=config.seed,
            ),
        )
    return found


def _channels(config: Config, network: Network, image: np.ndarray) -> dict[str, list[int]]:
    """The channels looked at, layer by layer."""
    if config.channels:
        return {layer: list(config.channels) for layer in layers_of(config)}
    chosen = {}
    for layer in layers_of(config):
        field = network.backbone.receptive_field(layer)
        maps = without_border(np.asarray(network.features(image[None], layer)), field, len(image))
        chosen[layer] = varied_channels(maps[0], config.channels_per_layer)
    return chosen


def _write(
    config: Config,
    folder: RunFolder,
    backbone: Backbone,
    found: list[Section],
) -> None:
    """Pictures and the report."""
    kind = {"trained": "trained on photographs"}.get(config.weights, "with random weights")
    report = Report(
        f"What {config.network} sees",
        f"A network of layers, {kind}: every layer answers to the one before, every channel of a "
        "layer looks for one thing, everywhere. Each section shows what, in another way.",
    )
    for section in found:
        report.heading(section.title)
        report.text(section.text)
        for text, rows in section.grids:
            if text:
                report.text(text)
            report.pictures(rows)
        folder.write_image(f"{section.file}.png", sections.as_one_picture(section))
    report.heading("What one unit sees")
    report.text(
        "The receptive field: the side of the square of pixels that one number of a layer depends "
        "on, and how far apart the squares of neighbours are. It follows from the sizes of kernels "
        "and strides alone."
    )
    fields = {layer: backbone.receptive_field(layer) for layer in layers_of(config)}
    report.table(
        ["layer", "channels", "field (px)", "stride (px)"],
        [
            [layer, str(backbone.channels(layer)), str(field.size), str(field.stride)]
            for layer, field in fields.items()
        ],
    )
    report.how_it_was_made(config)
    report.write(folder.path / "report.html")
