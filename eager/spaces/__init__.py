"""EAGER-LLM's search space for `harness tune`: data, a YAML file."""
