"""What stands behind the `lab` command: its groups of verbs, and what they print."""
