"""scikit-learn estimators: linear models and small networks with any penalty, trained by the proximal optimisers."""
