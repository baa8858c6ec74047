"""Settings: the schema, families of teachers, and checks. Without torch."""
