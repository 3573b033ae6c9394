"""`python -m tests.service.run_file FILE`: a program that imports from the tests."""

import runpy
import sys

runpy.run_path(sys.argv[1], run_name="__main__")
