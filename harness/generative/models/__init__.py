"""Sequence models over text and code tokens, and how they read prompts."""
