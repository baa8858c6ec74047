"""One file for each method: its paper, settings and residual. A file here is found by itself."""
