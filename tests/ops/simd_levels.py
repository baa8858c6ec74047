"""Results at every instruction-set level that this processor has, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from splatdistill import ops
from tests.packaging.audit import ROOT


def outputs(code: str) -> set[str]:
    """What Python `code` prints, one thread, over all levels: one text where the level changes nothing."""
    found = set()
    for level in ops.build_info()["simd_levels"]:
        environment = os.environ | {"SPLATDISTILL_SIMD": level, "OMP_NUM_THREADS": "1"}
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
        found.add(done.stdout)
    return found
