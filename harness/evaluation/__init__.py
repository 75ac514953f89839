"""Evaluation: metrics by ranx, checks of lists, paired statistics."""
