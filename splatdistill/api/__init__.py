"""What stands behind the names of `splatdistill`, the public API."""
