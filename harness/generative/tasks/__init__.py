"""Training samples: prompts, instruction tasks, batches."""
