"""What comes after a model has answered: scores by ranx, the audit of lists, paired statistics."""
