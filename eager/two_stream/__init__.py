"""EAGER (KDD 2024), the predecessor of EAGER-LLM: one encoder, a decoder for behaviour codes and one for semantic codes."""
