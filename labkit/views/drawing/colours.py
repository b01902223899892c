"""Okabe and Ito's colour-blind-safe palette. Each colour is always accompanied by a sign or a word."""

ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#888888"

SERVICES = {"order": BLUE, "inventory": GREEN, "payment": PURPLE, "shipping": ORANGE}
"""A colour for each service, the same in every picture."""
