"""Processes in which a judge calls the functions of the learner's file."""
