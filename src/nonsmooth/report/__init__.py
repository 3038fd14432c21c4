"""The report: one HTML page that explains what was measured."""
