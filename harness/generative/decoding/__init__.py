"""Codes to ranked items: trie, beam search, exhaustive scoring."""
