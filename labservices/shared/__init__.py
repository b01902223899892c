"""Code that the four services share, with one module for each idea."""
