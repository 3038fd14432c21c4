"""A pass of a model or a loss, recorded: which operations ran, where, and which parameters reach them."""
