"""Losses of a picture that is moved by some pixels, against losses of another picture."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.common.data import EMBEDDED, embedded_picture
from experiments.common.figures import panels
from experiments.common.progress import progress
from experiments.compare import scorer

__all__ = ["CLAIM", "moved_window"]

PIXELS = ("l1", "l2", "ssim")
FEATURES = ("vgg16", "lpips-vgg", "lpips-alex", "dists")
OTHERS = ("vgg16(metric='gram')", "mmd++", "swd")
SHIFTS = (1, 2, 4, 8)
_TOLERATED = 0.5


def moved_window(canvas: np.ndarray, size: int, down: int, across: int) -> np.ndarray:
    """The window of that side whose corner is (down, across) from the middle one's."""
    top, left = ((side - size) // 2 for side in canvas.shape[:2])
    return canvas[top + down : top + down + size, left + across : left + across + size]


def measure(setting: Setting) -> Measured:
    """`{distance: [of each shift: its loss over that of another picture]}`."""
    far = max(SHIFTS)
    canvases = [
        pj.images.resize(embedded_picture(name), setting.size + 2 * far).astype(np.float32) / 255
        for name in EMBEDDED[: setting.pictures]
    ]
    still = np.stack([moved_window(canvas, setting.size, 0, 0) for canvas in canvases])
    _, score = scorer([pj.make(spec) for spec in (*PIXELS, *FEATURES, *OTHERS)], setting.seed)
    with progress("shifts", len(SHIFTS) + 1, unit="shifts") as advance:
        others = jax.device_get(score(still, np.roll(still, 1, axis=0)))
        advance()
        found: dict[str, list[float]] = {name: [] for name in others}
        for shift in SHIFTS:
            parts = []
            for down, across in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
                moved = [moved_window(canvas, setting.size, down, across) for canvas in canvases]
                parts.append(jax.device_get(score(still, np.stack(moved))))
            for name, of_others in others.items():
                moved_loss = np.mean([np.mean(part[name]) for part in parts], dtype=np.float64)
                found[name].append(float(moved_loss / np.mean(of_others, dtype=np.float64)))
            advance()
    row = [(still[0], "as it is")]
    row += [(moved_window(canvases[0], setting.size, 0, s), f"moved by {s} px") for s in SHIFTS]
    return Measured({"shifts": list(SHIFTS), "relative": found}, {EMBEDDED[0]: row})


def tolerated(shifts: list[int], relative: list[float]) -> float | None:
    """The shift whose loss is half that of another picture, or None if none measured is."""
    x, y = [0.0, *map(float, shifts)], [0.0, *relative]
    for i in range(1, len(x)):
        if y[i] >= _TOLERATED:
            return float(np.interp(_TOLERATED, y[i - 1 : i + 1], x[i - 1 : i + 1]))
    return None


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether every feature loss is below every pixel loss, shift by shift."""
    relative = numbers["relative"]
    return verdict_on(
        [
            relative[feature][i] < min(relative[pixel][i] for pixel in PIXELS)
            for feature in FEATURES
            for i in range(len(numbers["shifts"]))
        ]
    )


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """Every loss against the shift."""
    figure, (axes,) = panels(size=(8, 4))
    styles = {**dict.fromkeys(PIXELS, "--"), **dict.fromkeys(OTHERS, ":")}
    for name, values in numbers["relative"].items():
        axes.plot(
            [0, *numbers["shifts"]],
            [0, *values],
            styles.get(name, "-"),
            marker="o",
            markersize=4,
            label=name,
        )
    axes.set(xlabel="moved by, px", ylabel="loss / loss of another picture")
    axes.legend(fontsize=8)
    return figure, "Every loss of a picture that is moved, relative to that of another picture"


def table(numbers: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Losses at every shift, and the shift that counts half as much as another picture."""
    rows = []
    for name, values in numbers["relative"].items():
        half = tolerated(numbers["shifts"], values)
        last = f"more than {max(numbers['shifts'])} px" if half is None else f"{half:.1f} px"
        rows.append([name, *(f"{value:.2f}" for value in values), last])
    return ["loss", *(f"{s} px" for s in numbers["shifts"]), "half of another picture at"], rows


CLAIM = Claim(
    says="Feature losses hardly notice that a picture is moved by a few pixels; pixel losses take "
    "it for another picture.",
    how="Photographs are moved by 1, 2, 4 and 8 pixels in four directions. Each loss is divided by "
    "its own loss between different photographs: 1 means that the moved picture counts as much as "
    "another picture.",
    rule="Holds if every feature loss (VGG, LPIPS, DISTS) is below every pixel loss (l1, l2, SSIM) "
    "at every shift; in part if some are at some shifts.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=table,
    source="D. Amir, Y. Weiss, Understanding and Simplifying Perceptual Distances, CVPR 2021",
)
