"""EAGER-LLM's named grids for `harness ablate`: data, one TOML file each."""
