"""The actors that ship ready-made."""
