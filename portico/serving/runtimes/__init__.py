"""One module for each framework whose artefacts can be served."""
