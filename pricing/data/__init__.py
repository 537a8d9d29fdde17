"""Sales data: reading and checking rows, building the panel, calendars and events, features."""
