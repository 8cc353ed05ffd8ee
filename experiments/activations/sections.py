"""The sections of the page: each a few sentences, pictures, and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.activations.config import Inputs
from experiments.activations.maximise import maximised
from experiments.activations.neighbours import cut, detailed, nearest
from experiments.activations.saliency import guided_positive_part, unit_gradients
from experiments.activations.units import (
    Network,
    Unit,
    cropped,
    strongest,
    strongest_of_all,
    without_border,
)
from experiments.common.neighbours import distances_to
from experiments.common.progress import progress
from experiments.compare import heat
from perceptual_jax.ops.safe import positive_part

__all__ = [
    "Section",
    "as_one_picture",
    "drawn_patches",
    "feature_maps",
    "nearest_patches",
    "sources",
    "strongest_patches",
]

Rows = dict[str, list[tuple[np.ndarray, str]]]
"""`{row label: [(picture, caption), ...]}`."""

_SIDE = 144
"""Of the pictures shown, in pixels."""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      title: its heading.
      file: the name of its picture, and of its numbers.
      text: what one is looking at.
      grids: pictures, each grid with a sentence or none.
      numbers: for results.json.
    """

    title: str
    file: str
    text: str
    grids: list[tuple[str, Rows]]
    numbers: Any


def as_one_picture(section: Section) -> np.ndarray:
    """All pictures of a section in one."""
    rows = [[picture for picture, _ in row] for _, grid in section.grids for row in grid.values()]
    height = max(picture.shape[0] for row in rows for picture in row)
    width = max(picture.shape[1] for row in rows for picture in row)
    return pj.images.grid([[_on_white(picture, height, width) for picture in row] for row in rows])


def feature_maps(
    network: Network, inputs: Inputs, channels: Mapping[str, Sequence[int]]
) -> Section:
    """What the layers answer to the image; to the prediction too, and the difference."""
    shown = {"image": inputs.image}
    if inputs.prediction is not None:
        shown["prediction"] = inputs.prediction
    rows: Rows = {"": [(_shown(picture), name) for name, picture in shown.items()]}
    numbers: dict[str, Any] = {}
    for layer, chosen in channels.items():
        batch = np.stack(list(shown.values()))
        maps = np.asarray(network.features(batch, layer)[..., np.asarray(chosen)])
        low, high = maps.min(axis=(0, 1, 2)), maps.max(axis=(0, 1, 2))
        size = f"{maps.shape[1]} x {maps.shape[2]}"
        for which, of_image in zip(shown, maps, strict=True):
            label = f"{layer} · {size}" if len(shown) == 1 else f"{layer} · {which}"
            rows[label] = [
                (_as_map(of_image[..., i], low[i], high[i]), f"channel {channel} · {high[i]:.3g}")
                for i, channel in enumerate(chosen)
            ]
        numbers[layer] = {"channels": list(chosen), "most": high.tolist()}
        if inputs.prediction is not None:
            difference = np.abs(maps[0] - maps[1])
            relative = difference.mean(axis=(0, 1)) / np.maximum(np.abs(maps[0]).mean((0, 1)), 1e-9)
            rows[f"{layer} · difference"] = [
                (
                    _as_map(difference[..., i], 0.0, high[i] - low[i]),
                    f"{relative[i]:.0%} of the mean",
                )
                for i in range(len(chosen))
            ]
            numbers[layer]["difference"] = relative.tolist()
    text = (
        "Every picture is one channel of a layer, bright where it answers most; the number is its "
        "largest answer. Early layers answer to edges and colours where they are; deeper layers "
        "are coarse maps of where something is."
    )
    if inputs.prediction is not None:
        text += (
            " Image and prediction are drawn on one scale; the third row is how far apart their "
            "answers are, where."
        )
    return Section("Feature maps", "feature-maps", text, [("", rows)], numbers)


def strongest_patches(
    network: Network,
    inputs: Inputs,
    channels: Mapping[str, Sequence[int]],
    *,
    count: int,
    at_once: int,
) -> Section:
    """The patches that each channel answers to most, and what in them it answers to."""
    rows: Rows = {}
    numbers: dict[str, Any] = {}
    images = inputs.images
    with progress("strongest patches", sum(map(len, channels.values())), unit="channels") as bar:
        for layer, chosen in channels.items():
            batches = (images[i : i + at_once] for i in range(0, len(images), at_once))
            field = network.backbone.receptive_field(layer)
            found = strongest_of_all(network, batches, layer, chosen, count)
            numbers[layer] = {}
            for channel, units in zip(chosen, found, strict=True):
                gradients = unit_gradients(
                    network, images, layer, channel, units, guided_positive_part
                )
                cells = []
                for unit, gradient in zip(units, gradients, strict=True):
                    seen = cropped(images[unit.image], field, unit.row, unit.column)
                    source = cropped(gradient, field, unit.row, unit.column, outside=0.0)
                    pair = np.concatenate([_shown(seen), _GAP, _shown(_around_grey(source))])
                    cells.append((pair, f"{inputs.names[unit.image]} · {unit.value:.3g}"))
                rows[f"{layer} · channel {channel}" + ("" if units else " · silent")] = cells
                numbers[layer][str(channel)] = [
                    unit._asdict() | {"image": inputs.names[unit.image]} for unit in units
                ]
                bar()
    return Section(
        "Patches that a channel answers to most",
        "strongest-patches",
        f"Of all patches of {len(images)} images, those that one unit of the channel answers to "
        "most, with its answer; each is as large as what the unit sees, and beyond the image it is "
        "grey. Below each is what in it "
        "the answer comes from, by guided backpropagation: grey is nothing.",
        [("", rows)],
        numbers,
    )


def drawn_patches(
    network: Network,
    channels: Mapping[str, Sequence[int]],
    *,
    steps: int,
    learning_rate: float,
    smoothness: float,
    seed: int,
) -> Section:
    """Patches made so that a channel answers to them as much as it can."""
    rows: Rows = {}
    numbers: dict[str, Any] = {}
    with progress("drawn patches", steps * len(channels)) as advance_bar:
        for place, (layer, chosen) in enumerate(channels.items()):
            drawn = maximised(
                network,
                layer,
                chosen,
                steps=steps,
                learning_rate=learning_rate,
                smoothness=smoothness,
                key=jax.random.fold_in(jax.random.key(seed), place),
                advance_bar=advance_bar,
            )
            rows[f"{layer} · {drawn[0].image.shape[0]} px"] = [
                (_shown(patch.image), f"channel {channel} · {patch.answer:.3g}")
                for channel, patch in zip(chosen, drawn, strict=True)
            ]
            numbers[layer] = {
                str(channel): patch.answer for channel, patch in zip(chosen, drawn, strict=True)
            }
    return Section(
        "Patches drawn for a channel",
        "drawn-patches",
        "Begun as grey noise and changed, step by step, so that the channel's middle unit answers "
        "more: what it looks for, whether or not a photograph has it. The number is the answer "
        "before the ReLU; compare it with those of photographs above.",
        [("", rows)],
        numbers,
    )


def sources(network: Network, image: np.ndarray, channels: Mapping[str, Sequence[int]]) -> Section:
    """Plain and guided gradients of the strongest unit on the image."""
    rows: Rows = {}
    numbers: dict[str, Any] = {}
    for layer, chosen in channels.items():
        field = network.backbone.receptive_field(layer)
        maps = np.asarray(network.features(image[None], layer))
        maps = without_border(maps, field, len(image))[0]
        units: dict[int, Unit] = {}
        for channel in chosen:
            for unit in strongest(maps[..., channel], 1, 1):
                units[channel] = unit
        if not units:
            continue
        channel, unit = max(units.items(), key=lambda item: item[1])
        plain, guided = (
            unit_gradients(network, image[None], layer, channel, [unit], rule)[0]
            for rule in (positive_part, guided_positive_part)
        )
        seen = cropped(image, field, unit.row, unit.column)
        plain, guided = (
            cropped(each, field, unit.row, unit.column, outside=0.0) for each in (plain, guided)
        )
        rows[f"{layer} · channel {channel}"] = [
            (_shown(seen), "what the unit sees"),
            (_shown(heat(np.abs(plain).max(axis=-1))), "size of the gradient"),
            (_shown(_around_grey(plain)), "gradient"),
            (_shown(_around_grey(guided)), "guided gradient"),
        ]
        numbers[layer] = {"channel": channel, **unit._asdict()}
    return Section(
        "Where an answer comes from",
        "sources",
        "For every layer the unit that answers most to the image: what it sees of it, and the "
        "gradient of its answer by the pixels, as its size and as colours around grey. The guided "
        "gradient leaves out, at every ReLU, what would make the answer smaller; it shows the "
        "shapes that the unit looks for.",
        [("", rows)],
        numbers,
    )


def nearest_patches(
    distances: Sequence[pj.Distance],
    inputs: Inputs,
    *,
    queries: int,
    neighbours: int,
    side: int,
    stride: int,
    seed: int,
) -> Section:
    """The patches that several distances find nearest to a few of the image's."""
    # The image first, and once: among the others it would be its own neighbour.
    others = [i for i, each in enumerate(inputs.images) if not np.array_equal(each, inputs.image)]
    images = np.concatenate([inputs.image[None], inputs.images[others]])
    names = ["the image", *(inputs.names[i] for i in others)]
    patches = cut(images, side, stride)
    asked = detailed(patches, 0, queries)
    grids: list[tuple[str, Rows]] = [("", {}) for _ in asked]
    numbers: list[dict[str, Any]] = [{} for _ in asked]
    with progress("nearest patches", len(distances), unit="distances") as advance_bar:
        for distance in distances:
            params = distance.init(jax.random.key(seed))
            found = distances_to(distance, params, patches.pixels[asked], patches.pixels)
            for place, query in enumerate(asked):
                ranked = nearest(patches, found[place], query, neighbours)
                grids[place][1][distance.name] = [
                    (_shown(patches.pixels[query]), "the patch"),
                    *(
                        (
                            _shown(patches.pixels[each]),
                            f"{names[patches.image[each]]} · {found[place, each]:.3g}",
                        )
                        for each in ranked
                    ),
                ]
                numbers[place][distance.name] = [
                    {
                        "image": names[patches.image[each]],
                        "corner": patches.corner[each].tolist(),
                        "distance": float(found[place, each]),
                    }
                    for each in ranked
                ]
            advance_bar()
    return Section(
        "Nearest patches",
        "nearest-patches",
        f"A patch of the image, and of {len(patches.image)} patches of {len(images)} images those "
        "that each distance finds nearest, none of which overlaps another by more than half. Pixel "
        "distances look for what is dark and bright in the same places; perceptual ones for the "
        "same kind of thing.",
        grids,
        numbers,
    )


# --- Pictures ------------------------------------------------------------------------------

_GAP = np.full((4, _SIDE, 3), 255, np.uint8)


def _shown(picture: np.ndarray) -> np.ndarray:
    """As uint8 at the side shown; small ones in visible pixels."""
    pixels = pj.images.to_uint8(picture)
    method = "nearest" if pixels.shape[0] < _SIDE else "bicubic"
    return pj.images.resize(pixels, _SIDE, method=method)


def _as_map(values: np.ndarray, low: float, high: float) -> np.ndarray:
    from matplotlib import colormaps

    unit = (values - low) / max(float(high - low), 1e-30)
    return _shown(colormaps["inferno"](np.clip(unit, 0, 1))[..., :3])


def _around_grey(gradient: np.ndarray) -> np.ndarray:
    """A gradient as a picture: 0 is grey, the largest hundredth is as bright or dark as can be."""
    scale = max(float(np.quantile(np.abs(gradient), 0.995)), float(np.abs(gradient).max()) / 4)
    return 0.5 + 0.5 * gradient / scale if scale > 0 else np.full_like(gradient, 0.5)


def _on_white(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    page = np.full((height, width, 3), 255, np.uint8)
    page[: picture.shape[0], : picture.shape[1]] = picture
    return page
