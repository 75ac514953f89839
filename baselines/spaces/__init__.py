"""Search spaces of the counting models for `harness tune`: data, one TOML file each."""
