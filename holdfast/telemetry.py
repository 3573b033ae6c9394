"""`holdfast.telemetry`: a runtime's spans for OpenTelemetry (extra `telemetry`)."""

from holdfast.actors.telemetry import Telemetry

__all__ = ["Telemetry"]
