"""What `harness tune tiger` searches."""
