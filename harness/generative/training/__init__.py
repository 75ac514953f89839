"""The trainer, its checkpoints, its losses and stages."""
