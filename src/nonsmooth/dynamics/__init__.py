"""Methods iterated over ensembles: recursions, step sizes, stationary laws, training."""
