"""`python -m holdfast.examples.invoice_approval [FOLDER]`."""

from .demo import main

main()
