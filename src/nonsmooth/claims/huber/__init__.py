"""Huber and ReLU regression: convex problems with and without a Lipschitz gradient (§1, §4)."""
