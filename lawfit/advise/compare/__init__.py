"""What published laws would have cost on a recipe's own runs."""
