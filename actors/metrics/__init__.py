"""What a runtime tells about itself: counts, their course over the last hours, alerts."""
