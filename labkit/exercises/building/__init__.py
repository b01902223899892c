"""Exercises in which the learner writes a piece of an event-driven system: a handler, a loop, a policy, a test."""
