"""Recipes as YAML, and in `priors` what each family of teachers is run with. Installed as `splatdistill.configs`."""
