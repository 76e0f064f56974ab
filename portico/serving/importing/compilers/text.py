"""Bags of words, with the tokens that Python's regular expressions would find.

ONNX Runtime's tokeniser knows the letters and digits of all scripts, but its lower case is that of
ASCII wherever the machine has no other locale. So texts with other capitals take a second path,
which looks every character up in Python's own table.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

from portico.serving.importing.compilers.dispatch import transformer
from portico.serving.importing.compilers.graph import BOOL, DOUBLE, INT64, ML
from portico.serving.importing.compilers.scaling import unit_rows
from portico.serving.importing.compilers.tables import Table, Text, numbers
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value

_LETTER: Final = r"[\p{L}\p{N}_]"
"""What ``\\w`` is to Python."""

_WORDS: Final = re.compile(r"(?:\(\?u\))?(?:\\b)?((?:\\w)*)\\w(?:\+|\{(\d+),\})(?:\\b)?")
"""Patterns that match whole words of a least length, such as scikit-learn's own."""

_CAPITALS: Final = r"[^\p{Lu}\p{Lt}\p{Nl}\p{So}]*"
"""A text without any character that has a lower case."""

_ALMOST_ASCII: Final = "\u0130\u212a"
"""Letters beyond ASCII whose lower case begins in ASCII: at first they belong to a word."""

_FINAL_SIGMA: Final = "ς"


@transformer(CountVectorizer)
def _counts(graph: Graph, vectorizer: CountVectorizer, table: Table) -> Table:
    if len(table.parts) != 1 or not isinstance(table.parts[0], Text):
        raise CannotCompile("a vectoriser of texts is given something else")
    if vectorizer.analyzer != "word" or vectorizer.tokenizer or vectorizer.preprocessor:
        raise CannotCompile("only words of texts have a compiler, not characters or own functions")
    if vectorizer.strip_accents is not None:
        raise CannotCompile("ONNX has no operator that strips accents from texts")
    text = graph.reshape(table.parts[0].value, -1)
    pattern = _pattern(vectorizer.token_pattern)
    words = _words(graph, text, pattern, lowercase=vectorizer.lowercase)
    first, last = vectorizer.ngram_range
    stopped = vectorizer.get_stop_words()
    if stopped and last > 1:
        words = _without(graph, words, sorted(stopped))
    places = [
        _looked_up(graph, _joined(graph, words, n), vectorizer.vocabulary_)
        for n in range(first, last + 1)
    ]
    size = len(vectorizer.vocabulary_)
    counts = _counted(graph, graph.concat(places), size)
    if vectorizer.binary:
        counts = graph.cast(graph.add("Greater", counts, 0.0), DOUBLE)
    return numbers(counts, size, is_finite=True)


@transformer(TfidfVectorizer)
def _weighted(graph: Graph, vectorizer: TfidfVectorizer, table: Table) -> Table:
    return _reweighted(graph, vectorizer._tfidf, _counts(graph, vectorizer, table))


@transformer(TfidfTransformer)
def _reweighted(graph: Graph, step: TfidfTransformer, table: Table) -> Table:
    value = table.numbers(graph)
    if step.sublinear_tf:
        none = graph.add("Equal", value, 0.0)
        logs = graph.add("Add", graph.add("Log", graph.add("Where", none, 1.0, value)), 1.0)
        value = graph.add("Where", none, 0.0, logs)
    if step.use_idf:
        value = graph.add("Mul", value, np.asarray(step.idf_, dtype=np.float64))
    if step.norm is not None:
        value = unit_rows(graph, value, step.norm)
    return numbers(value, table.width, is_finite=table.is_finite)


def _pattern(pattern: str) -> str:
    """Return a pattern of Python in the dialect of ONNX Runtime's tokeniser.

    Raises:
        CannotCompile: they would not find the same.
    """
    words = _WORDS.fullmatch(pattern)
    if words:
        return f"{_LETTER}{{{len(words[1]) // 2 + int(words[2] or 1)},}}"
    if re.fullmatch(r"\[[A-Za-z0-9_-]+\](\+|\{\d+,\})", pattern):
        return pattern
    raise CannotCompile(f"the token pattern {pattern!r} may find other words in ONNX")


def _words(graph: Graph, text: Value, pattern: str, *, lowercase: bool) -> Value:
    """Return the words of each row, ``[rows, most]``, filled up with empty texts."""
    if not lowercase:
        return _split(graph, text, pattern)
    lower = graph.add("StringNormalizer", text, case_change_action="LOWER", locale="C")
    words = _split(graph, lower, pattern.replace("[", f"[{_ALMOST_ASCII}", 1))
    plain = graph.add("RegexFullMatch", lower, pattern=f"(?s){_CAPITALS}")
    all_plain = graph.add("ReduceMin", graph.cast(plain, INT64), keepdims=0)
    return graph.either(
        graph.cast(all_plain, BOOL),
        lambda branch: branch.add("Identity", words),
        lambda branch: _lower(branch, words, pattern),
    )


def _split(graph: Graph, text: Value, pattern: str) -> Value:
    return graph.add(
        "Tokenizer", text, domain="com.microsoft", mark=0, pad_value="", mincharnum=1,
        tokenexp=pattern,
    )  # fmt: skip


def _lower(graph: Graph, words: Value, pattern: str) -> Value:
    """Return words in lower case, character by character as Python has it."""
    flat = graph.reshape(words, -1)
    characters = graph.add(
        "Tokenizer", flat, domain="com.microsoft", mark=0, pad_value="", mincharnum=1,
        separators=[""],
    )  # fmt: skip
    capitals = [chr(code) for code in range(128, sys.maxunicode) if chr(code).lower() != chr(code)]
    known = graph.add(
        "LabelEncoder", characters, domain=ML, keys_strings=capitals,
        values_strings=[capital.lower() for capital in capitals], default_string="",
    )  # fmt: skip
    nothing = np.array([""], dtype=object)
    lower = graph.add("Where", graph.add("Equal", known, nothing), characters, known)
    # A capital sigma at the end of a word has a lower case of its own.
    after = graph.add("Slice", characters, np.array([1]), np.array([2**31]), np.array([1]))
    empty = _emptied(graph, flat)
    after = graph.concat([after, graph.reshape(empty, -1, 1)])
    sigma = graph.add("Equal", characters, np.array(["Σ"], dtype=object))
    ends = graph.add("And", sigma, graph.add("Equal", after, nothing))
    lower = graph.add("Where", ends, np.array([_FINAL_SIGMA], dtype=object), lower)
    joined = graph.joined_texts(lower, empty)
    # The lower case of one Turkish capital ends in a sign that is no letter, and parts words.
    again = _split(graph, joined, pattern)
    rows = graph.add("Shape", words, end=1)
    return graph.add("Reshape", again, graph.concat([rows, np.array([-1])], axis=0))


def _emptied(graph: Graph, texts: Value) -> Value:
    """Return as many empty texts."""
    return graph.add("Expand", np.array([""], dtype=object), graph.add("Shape", texts))


def _without(graph: Graph, words: Value, stopped: list[str]) -> Value:
    """Take stop words out, so that their neighbours become neighbours of each other."""
    is_stop = graph.add(
        "LabelEncoder", words, domain=ML, keys_strings=stopped,
        values_int64s=[1] * len(stopped), default_int64=0,
    )  # fmt: skip
    length = graph.add("Shape", words, start=1, end=2)
    place = graph.add("Range", 0, graph.reshape(length), 1)
    key = graph.add("Add", place, graph.add("Mul", is_stop, 2**31))
    _, order = graph.add_many("TopK", 2, key, length, axis=1, largest=0, sorted=1)
    moved = graph.add("GatherElements", words, order, axis=1)
    gone = graph.add("GatherElements", is_stop, order, axis=1)
    return graph.add("Where", graph.cast(gone, BOOL), np.array([""], dtype=object), moved)


def _joined(graph: Graph, words: Value, count: int) -> Value:
    """Return runs of ``count`` words with blanks between them."""
    run = words
    for shift in range(1, count):
        end = graph.add("Slice", run, np.array([0]), np.array([-1]), np.array([1]))
        start = graph.add("Slice", words, np.array([shift]), np.array([2**31]), np.array([1]))
        spaced = graph.add("StringConcat", end, np.array([" "], dtype=object))
        run = graph.add("StringConcat", spaced, start)
    return run


def _looked_up(graph: Graph, words: Value, vocabulary: dict[str, Any]) -> Value:
    """Return the place of each word in the vocabulary; unknown ones are beyond its end."""
    return graph.add(
        "LabelEncoder", words, domain=ML, keys_strings=list(vocabulary),
        values_int64s=[int(place) for place in vocabulary.values()],
        default_int64=len(vocabulary),
    )  # fmt: skip


def _counted(graph: Graph, places: Value, size: int) -> Value:
    """Return how often each place occurs in a row, doubles ``[rows, size]``."""
    rows = graph.add("Shape", places, end=1)
    shape = graph.concat([rows, np.array([size])], axis=0)
    is_known = graph.add("Less", places, size)
    zeros = graph.add(
        "ConstantOfShape", shape, value=helper.make_tensor("", TensorProto.DOUBLE, [1], [0.0])
    )
    # Unknown words add nothing, and a pass over all places is saved that would cut them off.
    first = graph.add("Where", is_known, places, 0)
    added = graph.cast(is_known, DOUBLE)
    return graph.add("ScatterElements", zeros, first, added, axis=1, reduction="add")
