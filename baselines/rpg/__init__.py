"""RPG (Hou et al., KDD 2025, arXiv 2506.05781): long semantic ids whose tokens are predicted in parallel."""
