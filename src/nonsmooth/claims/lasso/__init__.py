"""The LASSO: what the penalty should have done, and the methods that do it (§3, §4)."""
