"""Holdfast: durable actors for asyncio, in one process and one folder."""
