"""Text to 3D Gaussian objects by score distillation. Importing this package loads nothing heavy."""

__version__ = "0.1.0"
