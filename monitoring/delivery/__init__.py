"""What carries stored lines and totals to the sinks."""
