"""EAGER-LLM (Hong et al., WWW 2025, arXiv 2502.14735)."""
