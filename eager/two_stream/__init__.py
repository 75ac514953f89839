"""EAGER (KDD 2024), the predecessor of EAGER-LLM: one encoder and a decoder for the codes of each source."""
