"""What `harness tune lcrec` searches."""
