"""One module for each framework whose artefacts can be served."""

import os

# ONNX Runtime 1.32 reports its use to its maker's host from threads of its own, unless it is told
# not to before it is loaded. A gateway calls nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
