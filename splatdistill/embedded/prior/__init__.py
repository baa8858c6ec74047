"""Training of the prior that comes with the package."""
