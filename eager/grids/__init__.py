"""EAGER-LLM's named grids for `harness ablate`: data, one YAML file each."""
