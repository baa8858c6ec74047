"""Settings: the schema, presets and their checks. Without torch."""
