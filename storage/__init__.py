"""Bytes, keys and transactions: one folder, one LMDB environment, one ordered log of commits.  Knows no actor."""
