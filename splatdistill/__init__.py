"""Text to 3D Gaussian objects by score distillation. Importing this package loads nothing heavy."""

import os as _os
import sys as _sys

from splatdistill.utils.cpu import limit_spinning as _limit_spinning

__version__ = "0.2.0"

_limit_spinning(_os.environ, loaded="torch" in _sys.modules)
