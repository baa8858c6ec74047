"""`python -m splatdistill.viewer RUN`: the server beside a training. Waits for the run folder, ends with its parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from splatdistill.io.runs import Run
from splatdistill.utils.system import interrupt, is_orphan

from .server import serve

parent = os.getppid()
run = Path(sys.argv[1])


def end_with_parent() -> None:
    while not is_orphan(parent):
        time.sleep(1)
    interrupt(signal.SIGINT)


threading.Thread(target=end_with_parent, daemon=True).start()
try:
    while not Run(run).exists():
        time.sleep(0.2)
    serve([run])
except KeyboardInterrupt:
    pass
