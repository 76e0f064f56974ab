"""A card that is written reads as it was."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from portico.serving.card import AnswerCard, FeatureCard, ImageCard, LimitsCard, ModelCard
from portico.serving.importing.cards import card_as_toml
from portico.serving.signature import AnswerKind, Scores

# TOML is UTF-8, so half a surrogate pair has no place in it.
texts = st.text(st.characters(codec="utf-8"))
numbers = st.none() | st.floats(allow_nan=False)
features = st.builds(
    FeatureCard,
    title=texts,
    unit=texts,
    minimum=numbers,
    step=numbers,
    choices=st.lists(texts | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False))
    | st.dictionaries(texts, texts),
    open=st.booleans(),
    default=st.none() | texts | st.booleans() | st.floats(allow_nan=False),
    optional=st.none() | st.booleans(),
)
answers = st.builds(
    AnswerCard,
    kind=st.none() | st.sampled_from(AnswerKind),
    labels=st.lists(texts),
    scores=st.none() | st.sampled_from(Scores),
    top=st.integers(1, 9),
)
images = st.none() | st.builds(
    ImageCard,
    resize=st.none() | st.integers(1, 500) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    color=st.sampled_from(["RGB", "BGR", "L"]),
    mean=st.lists(st.floats(allow_nan=False), max_size=3),
    invert=st.booleans(),
)
cards = st.builds(
    ModelCard,
    title=texts,
    description=texts,
    feature_names=st.lists(texts),
    features=st.dictionaries(texts, features, max_size=3),
    answer=answers,
    image=images,
    limits=st.builds(LimitsCard, queue_rows=st.integers(1, 9)),
)


@given(cards)
def test_every_card_reads_as_it_was_written(card: ModelCard) -> None:
    assert msgspec.toml.decode(card_as_toml(card).encode(), type=ModelCard) == card


def test_a_card_says_only_what_was_given() -> None:
    card = ModelCard(title="Iris", features={"a b": FeatureCard(default=1.5)})
    assert card_as_toml(card).split("\n") == [
        'title = "Iris"', "", "[features]", "", '[features."a b"]', "default = 1.5", "",
    ]  # fmt: skip
