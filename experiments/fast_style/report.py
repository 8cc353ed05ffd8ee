"""What a run of fast style transfer writes: pictures, times, a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.common.figures import panels, plot_dotted
from experiments.common.generators import parameter_count
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from experiments.fast_style.config import Config

__all__ = ["write"]


def write(
    config: Config,
    folder: RunFolder,
    style: np.ndarray,
    drawn: Mapping[str, tuple[np.ndarray, np.ndarray]],
    seconds: Mapping[str, float],
    params: Any,
    metrics: list[dict[str, Any]],
    files: int,
) -> None:
    """Writes the pictures, results.json and the report.

    Args:
      config: the run's.
      folder: likewise.
      style: uint8 [h, w, 3].
      drawn: `{picture: (as given, in the style)}`, uint8 [h, w, 3].
      seconds: that each took, compiled.
      params: of the network.
      metrics: the lines logged on the way.
      files: how many pictures were learned on.
    """
    for name, (_, made) in drawn.items():
        folder.write_image(f"{file_name(name)}.png", made)
    folder.write_json(
        "results.json", {"seconds": dict(seconds), "last": metrics[-1] if metrics else {}}
    )
    report = Report(
        "One style, in one pass",
        f"A network of {parameter_count(params):,} parameters draws any photograph in one style. "
        f"It learned on crops of {files} pictures, in {config.steps} steps, to make what is near "
        "its photograph in content and near the painting in style; a picture then costs one pass.",
    )
    report.pictures({"the style": [(style, config.style)]})
    report.pictures(
        {
            name: [
                (given, "given"),
                (made, f"{made.shape[1]}x{made.shape[0]} px · {seconds[name]:.2f} s"),
            ]
            for name, (given, made) in drawn.items()
        }
    )
    report.heading("On the way")
    report.figure(_curves(metrics), "Content, style and variation by steps")
    report.text(
        "Each part is relative to what is usual before anything is drawn: 1 is how far mid-grey is "
        "from photographs in content, and how far photographs are from the style, times its weight."
    )
    report.how_it_was_made(config)
    report.write(folder.path / "report.html")
    console.print(f"report: {folder.path / 'report.html'}")


def _curves(metrics: list[dict[str, Any]]) -> Figure:
    figure, (axes,) = panels(size=(8, 3.6))
    for term in ("content", "style", "variation"):
        plot_dotted(
            axes, (line["step"] for line in metrics), (line[term] for line in metrics), term
        )
    axes.set(xlabel="step", ylabel="weighted part of the loss", yscale="log")
    axes.legend(fontsize=8)
    return figure
