"""Runs to observations: which level of each setting is held, what a scale is, how far a curve may be read."""
