"""The reports about a plan: a text, numbers for JSON, and an HTML page."""
