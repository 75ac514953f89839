"""Search spaces of RecBole's models for `harness tune`: data, one TOML file each, `default.toml` for the rest."""
