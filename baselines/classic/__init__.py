"""Training-free models: a transition graph with text, nearest items by text, EASE."""
