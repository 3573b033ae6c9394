"""Bytes, keys and transactions; knows no actor."""
