"""Scripts beside the package: each answers one question or makes one thing."""
