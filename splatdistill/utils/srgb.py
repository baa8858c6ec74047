"""Colours as a screen shows them (sRGB, IEC 61966-2-1) and as light adds up (linear)."""

from __future__ import annotations

import numpy as np


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB in 0..1, of any shape, as linear values in 0..1; what lies outside is clamped."""
    colours = np.clip(colours, 0, 1)
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
