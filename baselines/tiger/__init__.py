"""TIGER (Rajput et al., NeurIPS 2023, arXiv 2305.05065): semantic ids by RQ-VAE, and an encoder-decoder that writes the
next one."""
