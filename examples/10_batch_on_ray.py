"""Many prompts on a Ray cluster, or on this machine: runs are spread over workers, and a stopped batch goes on.

    pip install 'splatdistill[ray]'
    python examples/10_batch_on_ray.py                # starts Ray here
    python examples/10_batch_on_ray.py auto           # joins the cluster of RAY_ADDRESS

The folder `batch` holds a run folder for each prompt and report.html. The same command finishes what is left.
"""

import os
import sys
from pathlib import Path

from splatdistill import cli

SMOKE = "SPLATDISTILL_SMOKE" in os.environ
PROMPTS = ["a red ball", "a blue ball"] if SMOKE else ["a red armchair", "a blue mug", "a yellow car", "a green vase"]

Path("prompts.txt").write_text("\n".join(PROMPTS) + "\n")
command = ["batch", "--prompts", "prompts.txt", "--out", "batch", "--engine", "ray"]
command += ["--ray-address", sys.argv[1]] if len(sys.argv) > 1 else []
command += ["--prior", "analytic", "--steps", "2", "--output.frames", "2", "--workers", "1"] if SMOKE else []
sys.exit(cli.main(command))
