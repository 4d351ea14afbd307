"""From the arrays of published files to state dictionaries of our models."""
