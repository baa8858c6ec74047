"""A method of your own, from a package of its own: `examples/own_method` adds NFSD by an entry point.

    pip install --no-build-isolation examples/own_method
    python examples/05_own_method.py

The package is one class of 15 lines. Its settings are arguments here, and flags of `splatdistill train --method nfsd`.
"""

import os
import sys

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ

if "nfsd" not in splatdistill.list_methods():
    sys.exit("nfsd is not installed: pip install --no-build-isolation examples/own_method")
result = splatdistill.distill(
    "a green vase", method="nfsd", steps=2 if SMOKE else 600, nfsd={"guidance_scale": 7.5}, progress=True
)
print(result)
result.splats.save("vase.ply")
