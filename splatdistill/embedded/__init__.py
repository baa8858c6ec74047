"""The prior that is shipped: its corpus, its training and its weights."""
