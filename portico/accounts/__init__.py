"""Who may do what: identities, passwords, sessions."""
