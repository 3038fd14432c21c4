"""Sparse gradients of embeddings: rows that miss steps, and catch up before they are read."""
