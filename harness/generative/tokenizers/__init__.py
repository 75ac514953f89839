"""Items to codes: item embeddings, RQ-VAE, the item index."""
