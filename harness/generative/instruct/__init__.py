"""Instruction tuning of a language model on item codes: tasks and their texts, losses, stages, comprehension, and the
recommender that EAGER-LLM and LC-Rec are made of."""
