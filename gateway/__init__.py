"""The composition root: settings, the WSGI application, the command line."""
