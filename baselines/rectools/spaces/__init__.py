"""Search spaces of RecTools' models for `harness tune`: data, one TOML file each, `default.toml` for the rest."""
