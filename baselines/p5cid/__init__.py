"""P5-CID (Hua et al., SIGIR-AP 2023, arXiv 2305.06569): codes by recursive spectral clustering of co-occurrence."""
