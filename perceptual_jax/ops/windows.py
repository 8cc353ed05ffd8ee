"""Square windows of images."""

from __future__ import annotations

import numpy as np

from perceptual_jax._typing import Array

__all__ = ["extract_windows", "window_counts"]


def window_counts(height: int, width: int, size: int, stride: int) -> tuple[int, int]:
    """How many whole windows fit down and across; what is left at the far edges is not seen."""
    return (height - size) // stride + 1, (width - size) // stride + 1


def extract_windows(images: Array, size: int, stride: int) -> Array:
    """Cuts [n, h, w, c] into [n, k, size, size, c], windows in row-major order."""
    down, across = window_counts(images.shape[1], images.shape[2], size, stride)
    rows = np.arange(down)[:, None] * stride + np.arange(size)
    columns = np.arange(across)[:, None] * stride + np.arange(size)
    # [n, down, 1, size, 1, c] indices against [across, 1, size]: one gather.
    windows = images[:, rows[:, None, :, None], columns[None, :, None, :]]
    return windows.reshape(images.shape[0], down * across, size, size, images.shape[3])
