"""The best learning rate and batch: the joint surface, its backtest and certificate, and what sweeps lack for it."""
