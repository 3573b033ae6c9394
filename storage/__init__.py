"""Bytes, keys and transactions: one folder, one LMDB environment, one ordered log.  Knows no actor."""
