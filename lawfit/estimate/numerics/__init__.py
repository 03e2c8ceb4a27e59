"""On plain columns of numbers, knowing no recipe: fits, optima, resampling, certificates, what a setting costs."""
