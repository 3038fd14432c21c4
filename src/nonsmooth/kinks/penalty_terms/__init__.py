"""The penalties in a loss: those that its autograd graph shows, and those without a gradient, found by running it."""

from nonsmooth.kinks.penalty_terms.search import penalty_terms

__all__ = ["penalty_terms"]
