"""Write every format, read it back, and compare: bytes of each file, and how close its render is to the original.

python examples/08_export_formats.py [FILE]
"""

import os
import sys
import warnings

import numpy as np

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ
warnings.simplefilter("ignore")  # .splat and .usdz do not say which way is up; we wrote them, so we know

if len(sys.argv) > 1:
    splats = splatdistill.Splats.load(sys.argv[1])
else:
    splats = splatdistill.distill("a yellow car", steps=2 if SMOKE else 400, progress=True).splats
cameras = splatdistill.orbit([0, 120, 240], size=64 if SMOKE else 256)
original = splats.render(cameras)["rgb"]
for kind in ("ply", "compressed.ply", "splat", "spz", "sog", "glb"):
    file = splats.save(f"car.{kind}")
    error = np.square(splatdistill.Splats.load(file).render(cameras)["rgb"] - original).mean()
    quality = "exact" if error == 0 else f"{-10 * np.log10(error):.1f} dB"
    print(f".{kind:15} {file.stat().st_size:9,} bytes, render {quality}")
for kind in ("usdz", "html", "png", "mp4"):  # these are written, not read
    print(f".{kind:15} {splats.save(f'car.{kind}', frames=8, size=128).stat().st_size:9,} bytes")
