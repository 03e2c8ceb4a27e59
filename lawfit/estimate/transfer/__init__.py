"""What carries over: the learning rate across widths, tokens between recipes."""
