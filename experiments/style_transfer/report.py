"""What a style transfer shows: sheets of pictures, Gram matrices, curves, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.figures import panels
from experiments.common.pictures import fitted, sheet
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from experiments.style_transfer.config import Config
from experiments.style_transfer.drawing import Transfer, short_name

__all__ = ["correlations", "write_results"]

Pictures = Mapping[str, np.ndarray]
Drawn = Mapping[tuple[str, str, str], Transfer]

_LARGEST_CELL = 320


def write_results(
    config: Config, folder: RunFolder, contents: Pictures, styles: Pictures, drawn: Drawn
) -> None:
    """A sheet for each distance, results.json, the Gram matrices and the report."""
    distances = list(dict.fromkeys(distance for distance, _, _ in drawn))
    cell = min(config.size, _LARGEST_CELL)
    for distance in distances:
        name = _grid_name(drawn, distance)
        rows = _rows(contents, styles, drawn, distance)
        folder.write_image(name, sheet(list(rows.values()), cell), rows=rows)
    results = [
        {
            "distance": distance,
            "content": content,
            "style": style,
            "losses": {term: values[-1] for term, values in transfer.losses.items()},
            "seconds_per_step": transfer.seconds_per_step,
        }
        for (distance, content, style), transfer in drawn.items()
    ]
    folder.write_json("results.json", {"transfers": results})
    _report(config, contents, styles, drawn).write(folder.path / "report.html")
    for distance in distances:
        own = [transfer for (d, _, _), transfer in drawn.items() if d == distance]
        own.sort(key=lambda transfer: transfer.losses.get("style", [0.0])[-1])
        seconds = np.mean([transfer.seconds_per_step for transfer in own])
        pace = f", {seconds:.2f} s a step" if np.isfinite(seconds) else ""
        console.print(
            f"{short_name(distance)}: of the style's distance "
            f"{' to '.join(dict.fromkeys(_left(config, each) for each in (own[0], own[-1])))}{pace}"
        )
    console.print(f"report: {folder.path / 'report.html'}")


def _grid_name(drawn: Drawn, distance: str) -> str:
    only = all(d == distance for d, _, _ in drawn)
    return "grid.png" if only else f"grid-{file_name(distance)}.png"


def _rows(
    contents: Pictures, styles: Pictures, drawn: Drawn, distance: str
) -> dict[str, list[np.ndarray | None]]:
    """Contents down, styles across, the originals in the margins; a blend has all styles' rows."""
    columns = [style for d, c, style in drawn if d == distance and c == next(iter(contents))]
    shown = styles if columns == ["blend"] else {style: styles.get(style) for style in columns}
    rows = {f"styles ({', '.join(shown)})": [None, *shown.values()]}
    for name, picture in contents.items():
        rows[name] = [picture, *(drawn[distance, name, style].image for style in columns)]
    return rows


def _report(config: Config, contents: Pictures, styles: Pictures, drawn: Drawn) -> Report:
    report = Report(
        "Style transfer",
        "The scene of one picture in the manner of another: the picture that is near the content "
        "under one distance and near the style under another. The number is how much of the "
        "content's distance from the style is left.",
    )
    rows = {}
    for name, style in dict.fromkeys((content, style) for _, content, style in drawn):
        given = styles if style == "blend" else {style: styles[style]}
        originals = {name: contents[name], **given}
        rows[f"{name} in {style}"] = [
            *((_shown(picture, config.size), title) for title, picture in originals.items()),
            *(
                (transfer.image, _caption(config, distance, transfer))
                for (distance, c, s), transfer in drawn.items()
                if (c, s) == (name, style)
            ),
        ]
    report.pictures(rows)
    for distance in dict.fromkeys(distance for distance, _, _ in drawn):
        title = f"All pictures under {short_name(distance)} on one sheet"
        report.link(_grid_name(drawn, distance), title)
    matrices = _gram_figures(config, contents, styles, drawn)
    if matrices:
        report.heading("What style is to these distances")
        report.text(
            "The Gram matrix of a layer says which channels answer together, wherever that is. "
            "Here each is divided by the roots of its diagonal, so that it holds correlations: "
            "pale is 0, dark is 1. Channels are in an order that suits the style. The picture "
            "drawn should have the style's matrices, and did not when it was the content."
        )
    for description, figure in matrices:
        report.figure(figure, description)
    report.heading("On the way")
    report.text(
        "Each term as it enters the loss, its weight included. A jump is where the next scale "
        "begins: what was found is enlarged, and lacks what is fine."
    )
    report.figure(curves(drawn), "The loss's terms against steps, a line for each picture")
    report.table(
        ["picture", "style left", "seconds a step"],
        [
            [
                f"{content} in {style}, {short_name(distance)}",
                _left(config, transfer),
                f"{transfer.seconds_per_step:.3f}",
            ]
            for (distance, content, style), transfer in drawn.items()
        ],
    )
    report.how_it_was_made(config)
    return report


def _shown(picture: np.ndarray, side: int) -> np.ndarray:
    return pj.images.resize(picture, fitted(picture, side))


def _caption(config: Config, distance: str, transfer: Transfer) -> str:
    return f"{short_name(distance)} · {_left(config, transfer)}"


def _left(config: Config, transfer: Transfer) -> str:
    if "style" not in transfer.losses:
        return "no style"
    return f"{transfer.losses['style'][-1] / config.style_weight:.1%} left"


def curves(drawn: Drawn) -> Figure:
    """Each term against steps, a line for each picture and a colour for each distance."""
    terms = list(next(iter(drawn.values())).losses)
    distances = list(dict.fromkeys(distance for distance, _, _ in drawn))
    figure, found = panels(len(terms), size=(3.6 * len(terms), 3.4))
    for axes, term in zip(found, terms, strict=True):
        for (distance, _, _), transfer in drawn.items():
            colour = f"C{distances.index(distance)}"
            axes.plot(transfer.steps, transfer.losses[term], color=colour, linewidth=1)
        axes.set(xlabel="step", title=term)
        axes.set_ylim(bottom=0)
    for index, distance in enumerate(distances):
        axes.plot([], [], color=f"C{index}", label=short_name(distance))
    axes.legend(fontsize=8)
    return figure


# --- Gram matrices -------------------------------------------------------------------------


def correlations(gram: np.ndarray) -> np.ndarray:
    """A Gram matrix [c, c] divided by the roots of its diagonal; 0 for channels that are silent."""
    loud = np.sqrt(np.maximum(np.diagonal(gram), 0))
    return gram / np.where(loud > 0, loud, np.inf)[:, None] / np.where(loud > 0, loud, np.inf)


def _gram_figures(
    config: Config, contents: Pictures, styles: Pictures, drawn: Drawn
) -> list[tuple[str, Figure]]:
    """For each distance of Gram matrices, those of the first style, content and picture drawn."""
    found: dict[str, tuple[str, Figure]] = {}
    for (name, content, style), transfer in drawn.items():
        distance = pj.make(name)
        if name in found or style not in styles:
            continue
        params = distance.init(jax.random.key(config.seed))
        three = {
            f"the style, {style}": _shown(styles[style], config.style_size or config.size),
            f"the content, {content}": _shown(contents[content], config.size),
            "the picture drawn": transfer.image,
        }
        embed = jax.jit(lambda *given, distance=distance: distance.embed(*given))
        embedded = {
            title: embed(params, jnp.asarray(pj.images.to_uint8(image))[None])
            for title, image in three.items()
        }
        if _are_grams(embedded):
            title = f"Gram matrices of {short_name(name)}, as correlations"
            found[name] = (title, _drawn_grams(title, embedded))
    return list(found.values())


def _are_grams(embedded: Mapping[str, Any]) -> bool:
    return all(
        leaf.ndim == 3 and leaf.shape[1] == leaf.shape[2] > 1 for leaf in jax.tree.leaves(embedded)
    ) and all(isinstance(each, Mapping) for each in embedded.values())


def _drawn_grams(title: str, embedded: Mapping[str, Mapping[str, Any]]) -> Figure:
    layers = list(next(iter(embedded.values())))
    orders = {
        layer: _order(correlations(np.asarray(gram[0], np.float64)))
        for layer, gram in next(iter(embedded.values())).items()
    }
    figure = Figure(figsize=(2.2 * len(layers), 2.3 * len(embedded)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(embedded), len(layers), squeeze=False)
    for row, (name, grams) in zip(axes, embedded.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for place, layer in zip(row, layers, strict=True):
            matrix = correlations(np.asarray(grams[layer][0], np.float64))
            order = orders[layer]
            place.imshow(matrix[np.ix_(order, order)], cmap="magma_r", vmin=0, vmax=1)
            place.set(xticks=[], yticks=[])
    for place, layer in zip(axes[0], layers, strict=True):
        place.set_title(layer, fontsize=9)
    return figure


def _order(matrix: np.ndarray) -> np.ndarray:
    """Channels that answer together side by side: by the angle along two main axes."""
    _, directions = np.linalg.eigh(matrix)
    return np.argsort(np.arctan2(directions[:, -2], directions[:, -3]))
