"""Models of everything that crosses an edge: configuration, profiles, reports, records."""
