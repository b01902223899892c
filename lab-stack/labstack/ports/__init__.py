"""Ports on this machine: free ones, the plan of a lab, and reservations."""
