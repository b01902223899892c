"""The groups of subcommands of the `lab` command, and their output."""
