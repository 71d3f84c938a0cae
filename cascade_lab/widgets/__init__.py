"""Interactive viewers for notebooks; each can also be written to one HTML file."""
