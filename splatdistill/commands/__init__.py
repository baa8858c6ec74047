"""The verbs of the command line: the flags of each, and what it does. Nothing heavy loads before a verb runs."""
