"""`python -m labstack.cli`."""

from labstack.cli import main

main()
