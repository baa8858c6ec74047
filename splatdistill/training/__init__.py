"""The optimisation of one object, and its run on disk."""
