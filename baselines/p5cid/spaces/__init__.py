"""What `harness tune p5-cid` searches."""
