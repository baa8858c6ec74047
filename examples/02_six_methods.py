"""The six methods side by side: the same prior, prompt and seed, eight views of each object in a row of one picture.

python examples/02_six_methods.py
"""

import os

import numpy as np
from PIL import Image

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ
STEPS, SIZE = (2, 32) if SMOKE else (400, 128)

prior = splatdistill.load_prior("embedded")  # loaded once for all
rows = []
for method, paper in list(splatdistill.list_methods().items())[:6]:  # those after them are variants
    result = splatdistill.distill("a blue mug", method=method, prior=prior, steps=STEPS, seed=1)
    print(f"{method:12} {result.seconds:6.1f} s, {len(result.splats)} Gaussians, {paper}")
    rows.append(np.concatenate(list(result.splats.turntable(frames=8, size=SIZE)), 1))

Image.fromarray(np.concatenate(rows)).save("six_methods.png")
