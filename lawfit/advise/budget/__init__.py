"""How a budget is best spent: size, tokens, settings and time, from the law of the loss."""
