"""Who may do what: users, roles and sessions, free of any web framework and database library."""
