"""What `harness tune letter-tiger` and `harness tune letter-lcrec` search."""
