"""LC-Rec (arXiv 2311.09049): a language model that reads and writes RQ-VAE codes of item text."""
