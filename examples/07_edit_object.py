"""Edit an object: training goes on from a file of splats with another prompt. Any file that can be loaded will do.

python examples/07_edit_object.py                 # makes a red armchair first, and turns it blue
python examples/07_edit_object.py FILE PROMPT     # edits yours
"""

import os
import sys

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ

if len(sys.argv) == 3:
    file, prompt = sys.argv[1:]
else:
    first = splatdistill.distill("a red armchair", steps=2 if SMOKE else 400, progress=True)
    file, prompt = first.splats.save("before.ply"), "a blue armchair"

edited = splatdistill.distill(
    prompt,
    init=str(file),
    steps=2 if SMOKE else 300,
    densify={"start": 1.0},  # keep the Gaussians that are there, and change them
    progress=True,
)
edited.splats.save("after.ply")
before, after = (splats.render()["rgb"].mean((0, 1, 2)) for splats in (splatdistill.Splats.load(file), edited.splats))
print("mean colour before", before.round(3), "and after", after.round(3))
