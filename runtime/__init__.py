"""Who runs, when, and when a reply may leave: actors, turns, gates, alarms."""
