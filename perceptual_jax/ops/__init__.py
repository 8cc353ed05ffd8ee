"""Array operations the distances are made of: one meaning each, no parameters, no randomness."""
