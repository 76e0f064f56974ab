"""The gateway's own database; implements the ports of serving and accounts."""
