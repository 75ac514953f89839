"""Search spaces of the training-free models of this package for `harness tune`: data, one TOML file each."""
