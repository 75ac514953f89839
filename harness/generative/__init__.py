"""What every generative recommender shares: codes, trie, beam search, backbones, the tuning loop."""
