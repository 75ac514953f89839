"""Search space of EAGER for `harness tune`: data, one YAML file."""
