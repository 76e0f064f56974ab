"""WSGI middleware, one behaviour a file, each usable around any application.

Outermost first, as ``gateway.compose`` stacks them::

    Forwarded -> RequestContext -> AccessLog -> HTTPMetrics -> ErrorPages -> Access -> Limits
        -> dispatcher

``ContentEncoding`` stands behind the dispatcher, around the mounts whose bodies Portico reads.
Nothing here imports the rest of Portico. What a middleware needs is handed to its constructor,
and facts travel in the WSGI environment under these keys (a missing key means "not known"):

===========================  ============  ================================================
key                          set by        value
===========================  ============  ================================================
``portico.request_id``       RequestContext  str, also the ``X-Request-ID`` of the answer
``portico.trace_id``         RequestContext  str, W3C trace id, where ``traceparent`` gave one
``portico.started``          RequestContext  float, ``time.perf_counter()`` at arrival
``portico.root``             RequestContext  str, the outer ``SCRIPT_NAME`` before dispatch
``portico.mount``            dispatcher    str, name of the mount that answers
``portico.route``            the app       str, route pattern such as ``/models/<name>``
``portico.model``            the app       str, model that answered
``portico.version``          the app       str, its version
``portico.prediction``       the app       object whose ``id`` finds the prediction again
``portico.identity``         Access        object whose ``str()`` names who asks
``portico.session_token``    Access        str, the session by which the identity was found
``portico.bytes_in``         Limits        int, body bytes read so far
===========================  ============  ================================================
"""
