"""Choose how sparse a model is to be."""
