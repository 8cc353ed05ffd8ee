"""Pictures that the project draws itself, to serve as styles where there is no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage, spatial

__all__ = ["PAINTINGS", "stained_glass", "strokes"]

_SIDE = 512


def stained_glass(seed: int = 3, *, panes: int = 220) -> np.ndarray:
    """Panes of strong colours between dark lead: uint8 [512, 512, 3]."""
    rng = np.random.default_rng(seed)
    palette = np.array(
        [[178, 34, 44], [240, 180, 40], [24, 74, 140], [230, 226, 205], [20, 120, 110]], float
    )
    places = rng.uniform(0, _SIDE, (panes, 2))
    pixels = np.indices((_SIDE, _SIDE)).reshape(2, -1).T
    distances, nearest = spatial.cKDTree(places).query(pixels, k=2)
    shades = palette[rng.integers(len(palette), size=panes)] * rng.uniform(0.75, 1.1, (panes, 1))
    picture = shades[nearest[:, 0]].reshape(_SIDE, _SIDE, 3)
    # As uneven glass is: lighter here and there.
    light = ndimage.gaussian_filter(rng.normal(size=(_SIDE, _SIDE)), 6)
    picture = picture * (1 + 1.5 * light[..., None])
    lead = (distances[:, 1] - distances[:, 0]).reshape(_SIDE, _SIDE)
    picture = picture * np.clip((lead - 2) / 3, 0.08, 1)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def strokes(seed: int = 5) -> np.ndarray:
    """Thick strokes of blue and yellow that swirl around one another: uint8 [512, 512, 3]."""
    rng = np.random.default_rng(seed)
    palette = np.array(
        [[16, 32, 78], [32, 82, 146], [88, 148, 190], [190, 210, 190], [244, 200, 70]], float
    )
    hills = ndimage.gaussian_filter(rng.normal(size=(_SIDE, _SIDE)), 42, mode="wrap")
    uphill = np.stack(np.gradient(hills))
    along = np.stack([-uphill[1], uphill[0]]) / (np.linalg.norm(uphill, axis=0) + 1e-12)
    grains = ndimage.gaussian_filter(rng.normal(size=(_SIDE, _SIDE)), 2.0, mode="wrap")
    # The mean of the grains along the flow, both ways from every pixel: what was a grain is a line.
    drawn = np.zeros((_SIDE, _SIDE))
    for sign in (-1.0, 1.0):
        places = np.indices((_SIDE, _SIDE)).astype(float)
        for _ in range(16):
            drawn += ndimage.map_coordinates(grains, places, order=1, mode="wrap")
            flow = [ndimage.map_coordinates(a, places, order=1, mode="wrap") for a in along]
            places = places + sign * 1.5 * np.stack(flow)
    ridges = drawn / drawn.std()
    colours = ndimage.gaussian_filter(rng.normal(size=(_SIDE, _SIDE)), 30, mode="wrap")
    ranks = np.argsort(np.argsort((colours / colours.std() + 0.6 * ridges).ravel()))
    tone = (ranks / ranks.size * (len(palette) - 1)).reshape(_SIDE, _SIDE)
    picture = np.stack(
        [np.interp(tone, np.arange(len(palette)), palette[:, c]) for c in range(3)], axis=-1
    )
    # Light from the upper left on what stands out.
    relief = ndimage.sobel(ridges, axis=0) + ndimage.sobel(ridges, axis=1)
    picture = picture * (1 - 0.09 * np.clip(relief, -3, 3))[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


PAINTINGS: Mapping[str, Callable[[], np.ndarray]] = {
    "stained-glass": stained_glass,
    "strokes": strokes,
}
"""`{name: draws it}`."""
