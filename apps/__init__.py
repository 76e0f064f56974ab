"""One Flask factory for each mount: HTTP in, HTTP out."""
