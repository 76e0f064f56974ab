"""The WSGI application for any server: ``gateway.wsgi:application``."""

from gateway.compose import create_gateway
from gateway.process import log_sink
from gateway.settings import load_settings

_settings = load_settings()
application = create_gateway(_settings, log_sink(_settings))
