"""Demo models, trained on the spot from scikit-learn's own data sets.

``python -m portico.demos FOLDER`` fills a models folder; :func:`train` is the same for programs.
Nothing is downloaded.
"""

from portico.demos.training import pickles, train

__all__ = ["pickles", "train"]
