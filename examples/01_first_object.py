"""A first object: one call makes it in memory, and every file is written by its name.

python examples/01_first_object.py
"""

import os

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ  # a few steps, to see that it runs

result = splatdistill.distill("a red armchair", steps=3 if SMOKE else 600, progress=True)
print(result)
print("gradient norms:", [round(record["grad_norm"], 2) for record in result.metrics])

result.splats.save("armchair.ply")  # for any viewer of Gaussian splats
result.splats.save("armchair.gif", frames=4 if SMOKE else 60, size=64 if SMOKE else 256)
