"""Where engine profiles come from: estimates, measured data sets and live endpoints."""
