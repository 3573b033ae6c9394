"""Holdfast's benchmarks: every scenario beside a bare floor, measured in turn in one process.

Run from a checkout: ``python -m bench``.  Not part of the package.
"""
