"""What every app shares: layout, static files, error answers."""
