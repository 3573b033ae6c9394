"""`python -m holdfast.examples.campaign [FOLDER]`."""

from .demo import main

main()
