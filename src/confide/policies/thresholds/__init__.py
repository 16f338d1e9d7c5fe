"""Thresholds on the raw confidence, one module per goal, and the bounds and tests that they rest on."""
