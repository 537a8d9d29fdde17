"""The decision log: its line format, its writer and its reader."""
