"""The emotion engine: every text has an answer with all probabilities, and a batch job has the same numbers."""

import msgspec
import polars as pl
import pytest

from serving import settings as configuration
from serving.batch import run as batch
from serving.batch.task import Task
from serving.engines.emotion.scorer import EMOTION, EXAMPLE, EmotionScorer, check
from serving.engines.emotion.types import MAX_LETTERS, EmotionRequest
from serving.errors import InvalidRequestError
from serving.ingress.decoding.decoder import Decoder
from training.models.emotion.model import EmotionModel
from training.registry import defaults
from training.registry.registry import Registry
from training.tables.texts import EKMAN, EMOTIONS

NOW = 1_764_000_000.0


@pytest.fixture(scope="module")
def scorer(bundle_of):
    return EmotionScorer(EmotionModel.load(bundle_of("emotion")), lambda: NOW)


def asked(text, **fields):
    request = msgspec.convert({"text": text, **fields}, EmotionRequest)
    check(request)
    return request


def answer(scorer, text, **fields):
    request = asked(text, **fields)
    return scorer.rows([request], scorer.run(scorer.columns([request])))[0]


def test_an_angry_message_is_frustrated_and_thanks_are_not(scorer):
    angry, glad = answer(scorer, "I am so angry, this is disgusting!"), answer(scorer, "Thank you, that was quick!")
    assert angry.frustration > 0.5 > glad.frustration
    assert glad.labels[0] == "gratitude"
    assert {"anger", "disgust"} <= set(angry.ekman_labels)
    assert glad.ekman_labels[0] == "joy"


def test_every_emotion_and_group_has_a_probability(scorer):
    got = answer(scorer, "hm")
    assert tuple(got.probabilities) == EMOTIONS
    assert tuple(got.ekman) == tuple(EKMAN)
    assert got.labels == sorted(got.labels, key=lambda name: -got.probabilities[name])


def test_labels_are_the_emotions_that_reach_the_requested_probability(scorer):
    for least in (0.0, 0.1, 0.3, 1.0):
        got = answer(scorer, EXAMPLE["text"], minProbability=least)
        assert set(got.labels) == {name for name, p in got.probabilities.items() if p >= least}


def test_remarks_state_what_was_cut_or_empty(scorer):
    assert answer(scorer, "").remarks == ["empty"]
    assert answer(scorer, "good " * 2_000).remarks == ["cut"]
    assert answer(scorer, "good").remarks == []
    assert answer(scorer, "😡😡").remarks == ["unreadable"]
    assert answer(scorer, "Ich will mein Geld zurück, und zwar sofort!").remarks == ["language"]


def test_the_answer_has_the_threshold_of_the_model(scorer, bundle_of):
    assert answer(scorer, "hm").frustration_threshold == bundle_of("emotion").json("outputs.json")["frustration"]["threshold"]


def test_a_known_customer_needs_consent():
    with pytest.raises(InvalidRequestError, match=r"consent.*profiling"):
        asked("hello", customerId="c-1")
    asked("hello", customerId="c-1", consent=["profiling"])


def test_more_letters_than_allowed_are_refused():
    body = msgspec.json.encode({"text": "a" * (MAX_LETTERS + 1)})
    with pytest.raises(InvalidRequestError, match="text"):
        Decoder(EMOTION.request, EMOTION.check, 10).reread(body)


def test_batch_writes_a_column_for_each_emotion_and_the_labels(scorer, bundle_of, tmp_path):
    texts = ['he said "thanks', "", "what a day!", "I am so sad", "Wo ist meine Bestellung? Ich warte seit Wochen.", "😡", "a" * 300]
    (tmp_path / "in.tsv").write_text("".join(f"{text}\t27\tid\n" for text in texts))
    done = batch.run(Task("emotion", bundle_of("emotion").path, {}, configuration.load()), tmp_path / "in.tsv", tmp_path / "out.csv")
    out = pl.read_csv(tmp_path / "out.csv")
    assert (done.rows, out.height) == (7, 7)
    assert set(EMOTIONS) | {"labels", "frustration", "modelVersion"} <= set(out.columns)
    for row, text in zip(out.iter_rows(named=True), texts, strict=True):
        got = answer(scorer, text)
        assert {name: row[name] for name in EMOTIONS} == got.probabilities
        assert (row["labels"] or "") == ",".join(got.labels)
        assert (row["remarks"] or "") == ",".join(got.remarks)
        assert row["frustrationThreshold"] == got.frustration_threshold
    assert [cell or "" for cell in out["remarks"]] == ["", "empty", "", "", "language", "unreadable", "unreadable"]


def test_a_fresh_machine_has_a_default_without_data(tmp_path):
    said = []
    registry = Registry(str(tmp_path / "models"), tmp_path / "fetched")
    for task in ("purchase", "pricing"):
        assert registry.pointer(task, "champion") is None
    defaults.packaged(registry, "champion", said.append)
    assert registry.pointer("emotion", "champion") is not None
    assert "the model in the package" in said[0]
    defaults.packaged(registry, "champion", said.append)
    assert len(said) == 1
