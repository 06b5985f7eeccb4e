"""Self-healing torch classifiers on BentoML."""
