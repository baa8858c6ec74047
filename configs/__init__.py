"""Presets as YAML, one per method; installed as `splatdistill.configs` and read by `splatdistill.config.presets`."""
