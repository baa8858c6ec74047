"""Stable Diffusion as the teacher, on a GPU: the settings are those of published configs for models of its family.

    python examples/06_stable_diffusion.py                    # sd21-base, which must be on this machine or on the hub
    python examples/06_stable_diffusion.py FOLDER_OR_ID       # any other diffusers model

A run is thousands of steps and takes a GPU. `splatdistill prior list` names the models with their memory and licence.
"""

import os
import sys

import torch

import splatdistill

SMOKE = "SPLATDISTILL_SMOKE" in os.environ
NAME = sys.argv[1] if len(sys.argv) > 1 else "sd21-base"

if not (torch.cuda.is_available() or SMOKE):
    sys.exit("This takes a CUDA device, and torch sees none; the other examples run on a CPU.")
config = splatdistill.configure("a DSLR photo of a corgi", method="sds", prior=NAME)
print(f"{config.steps} steps at guidance scale {config.sds.guidance_scale}, {config.num_views} views")
less = {"steps": 2, "size": 32, "stages": [], "num_views": 2, "camera": {"views_per_group": 1}} if SMOKE else {}
result = splatdistill.distill(config.prompt, method="sds", prior=NAME, progress=True, **less)
result.splats.save("corgi.ply")
