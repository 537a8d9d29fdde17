"""What sells at which price: network, training, folds, metrics, elasticity."""
