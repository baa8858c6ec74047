"""VSD with particles: several objects at once that share one learned score, so that they differ (ProlificDreamer).

Each object is a sample of what the prior knows. Their distance says how much they differ.

    python examples/03_vsd_particles.py
"""

import itertools
import os

import numpy as np

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ

result = splatdistill.distill(
    "a chair",
    method="vsd",
    steps=2 if SMOKE else 600,
    vsd={"particles": 2 if SMOKE else 4},
    prior_mixture=True,  # all chairs that the prior knows stay open
)
views = [splats.turntable(frames=8, size=64).astype(float) / 255 for splats in result.particles]
for (i, a), (j, b) in itertools.combinations(enumerate(views), 2):
    print(f"objects {i} and {j} differ by {np.abs(a - b).mean():.3f} of the range of colours")
for i, splats in enumerate(result.particles):
    splats.save(f"chair-{i}.ply")
