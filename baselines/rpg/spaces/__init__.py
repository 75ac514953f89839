"""What `harness tune rpg` searches."""
