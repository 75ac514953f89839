"""The models that EAGER-LLM is measured against, each behind the `Recommender` contract."""
