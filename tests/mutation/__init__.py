"""Mutation tests: bugs put into the code one at a time, each of which a quick test must catch."""
