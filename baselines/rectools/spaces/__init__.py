"""Search spaces of RecTools' models for `harness tune`: data, one YAML file each, `default.yaml` for the rest."""
