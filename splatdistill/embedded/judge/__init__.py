"""The judge that comes with the package, and its training."""
