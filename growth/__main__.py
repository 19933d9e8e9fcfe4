"""`python -m growth` is `growth`."""

from growth.cli import main

main()
