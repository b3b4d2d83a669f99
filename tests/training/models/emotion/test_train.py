"""The emotion model: the encoder is the published one, the packaged head is as good as its card says, texts of any kind have numbers."""

import os

import numpy as np
import polars as pl
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import BundleError, TableError
from training.models import MODELS
from training.models.emotion import encoder as minilm
from training.models.emotion import finetune, quantized
from training.models.emotion import train as emotion_training
from training.models.emotion.model import NAMES, EmotionModel
from training.registry import bundle as bundles
from training.tables import frames
from training.tables import texts as emotion_table
from training.tables.texts import EKMAN, EMOTIONS

MIN_MACRO, MIN_MICRO = 0.46, 0.55


def silent(what, share):
    """Say nothing."""


@pytest.fixture(scope="module")
def packaged():
    return bundles.load(MODELS["emotion"].default)


@pytest.fixture(scope="module")
def model(packaged):
    return EmotionModel.load(packaged)


def present(scores, row=0):
    return {name for name, there in zip(NAMES, scores.present[row], strict=True) if there}


def test_the_packaged_head_is_less_than_a_mebibyte(packaged):
    assert sum(entry["bytes"] for entry in packaged.manifest["files"].values()) < 1 << 20


def test_the_encoder_gives_the_vectors_of_the_published_one(monkeypatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModel.from_pretrained(str(minilm.model_path())).eval()
    ours = minilm.encoder()
    for text in ("I have had enough of this!", "ok", "déjà vu 😀 日本"):
        ids = torch.from_numpy(minilm.pieces([text]).ids)[None]
        with torch.inference_mode():
            np.testing.assert_allclose(ours(ids).numpy(), theirs(input_ids=ids).last_hidden_state.numpy(), atol=2e-5)


def test_padding_changes_nothing_but_the_last_bits():
    short, long = (torch.from_numpy(minilm.pieces([text]).ids)[None] for text in ("thank you", "thank you very much for all of this"))
    padded = torch.nn.functional.pad(short, (0, long.shape[1] - short.shape[1]))
    encoder, mask = minilm.encoder(), torch.arange(long.shape[1])[None] < short.shape[1]
    with torch.inference_mode():
        np.testing.assert_allclose(encoder(padded, mask)[:, : short.shape[1]], encoder(short), atol=1e-5)


def test_plain_words_are_read_as_they_are_meant(model):
    texts = ["Thank you so much, you are wonderful!", "This is disgusting and makes me furious.", "The parcel is on the table."]
    scores = model.score(texts)
    assert "gratitude" in present(scores, 0)
    assert {"anger", "disgust"} & present(scores, 1)
    assert "frustration" in present(scores, 1)
    assert "neutral" in present(scores, 2)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_text_without_a_word_is_neutral_and_said_to_be_empty(model, text):
    scores = model.score([text])
    assert (scores.empty.tolist(), present(scores)) == ([True], {"neutral"})


@pytest.mark.parametrize(
    "text", ["😀😡", "日本語とenglish и русский", "a" * 100_000, "word " * 20_000, " " * 50_000 + "end", "\x00\x01", '"quoted" \' text']
)
def test_texts_of_any_kind_have_numbers(model, text):
    scores = model.score([text])
    assert np.isfinite(scores.probability).all()
    assert scores.cut[0] == (len(text) > 1000)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_a_text_alone_has_the_bits_it_has_among_others(model, texts):
    together = model.score(texts).probability
    for row, text in enumerate(texts):
        assert model.score([text]).probability.tobytes() == together[row].tobytes()


@pytest.mark.parametrize("text", ["😀😡🔥", "😡 !!!", "a" * 300, "x" * 120 + " " + "y" * 200, "\U0001f9ff…", "👍🏽👨‍👩‍👧"])
def test_a_text_without_a_known_word_is_unreadable_and_gets_the_base_rates(model, text):
    scores, empty = model.score([text]), model.score([""])
    assert (scores.unreadable.tolist(), present(scores)) == ([True], {"neutral"})
    assert scores.probability.tobytes() == empty.probability.tobytes()


@pytest.mark.parametrize("text", ["", "ok", "???", "😡 awful", "a" * 300 + " is broken", "12345678", "[UNK]", "[PAD] [SEP]"])
def test_a_text_with_a_known_word_or_none_at_all_is_not_unreadable(model, text):
    assert not model.score([text]).unreadable[0]


@pytest.mark.parametrize("name", ["[PAD]", "[SEP]", "[MASK]", "[CLS]", "[UNK]"])
def test_the_name_of_a_special_token_in_a_text_is_read_as_its_letters(model, name):
    ids = minilm.pieces([f"I hate this {name} so much"]).ids
    assert not set(ids[1:-1].tolist()) & {minilm.PAD, minilm.UNK, minilm.CLS, minilm.SEP, 103}
    plain = minilm.pieces([f"I hate this [ {name[1:-1]} ] so much"]).ids
    assert ids.tolist() == plain.tolist()
    angry = model.score(["I hate you, you make me so angry!", f"I hate you, you make me so angry! {name} {name} {name}"]).probability
    place = NAMES.index("anger")
    assert abs(angry[1, place] - angry[0, place]) < 0.25


def test_no_text_has_no_scores(model):
    assert model.score([]).probability.shape == (0, len(NAMES))


def test_a_tsv_has_no_header_and_no_quoting(tmp_path):
    path = tmp_path / "in.tsv"
    path.write_bytes(b'he said "no\t27\ta\r\n\n"\t2,3\tb\nlast\t0')
    frame = frames.read(path)
    assert frame.to_dict(as_series=False) == {
        "column1": ['he said "no', "", '"', "last"],
        "column2": ["27", "", "2,3", "0"],
        "column3": ["a", "", "b", ""],
    }


def test_a_wrong_label_is_named_with_its_line(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("fine\t27\nbad\t4,joyy\n")
    with pytest.raises(TableError, match=r"train\.tsv, line 2.*column2.*joyy.*did you mean joy"):
        emotion_training.read(path, {})


def test_labels_may_be_numbers_or_names_and_are_grouped_as_published():
    read = emotion_table.read(pl.DataFrame({"text": ["a", "b"], "labels": ["2,27", "curiosity, Joy"]}))
    groups = emotion_table.grouped(read.labels)
    names = [*EKMAN, "frustration"]
    assert [{names[place] for place in np.flatnonzero(row)} for row in groups] == [{"anger", "neutral", "frustration"}, {"surprise", "joy"}]
    assert sorted(name for group in EKMAN.values() for name in group) == sorted(EMOTIONS)


def test_a_head_is_learned_from_a_table_and_kept(tmp_path):
    rows = [
        f"{word} {number}\t{label}" for number in range(80) for word, label in (("thank you", 15), ("this is sad", 25), ("a table", 27))
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.tsv").write_text("\n".join(rows) + "\n")
    bundle = MODELS["emotion"].train(tmp_path / "in", tmp_path / "out", mapping={}, seed=0, progress=silent)
    said = EmotionModel.load(bundle).score(["thank you 5", "this is sad 7"])
    assert "gratitude" in present(said, 0)
    assert "sadness" in present(said, 1)
    assert bundle.json("metrics.json")["judgedBy"] == "folds of the texts"


def test_too_few_texts_and_another_task_are_refused(tmp_path, packaged):
    (tmp_path / "in.tsv").write_text("one\t1\n")
    with pytest.raises(TableError, match="1 texts, at least 200"):
        MODELS["emotion"].train(tmp_path / "in.tsv", tmp_path / "out", mapping={}, seed=0, progress=silent)
    lacking = bundles.write(tmp_path / "lacking", task="emotion", files={}, meta={})
    with pytest.raises(BundleError, match="no file"):
        EmotionModel.load(lacking)


def test_the_packaged_head_keeps_its_figures_on_texts_it_never_saw(model, packaged, data_dir):
    """GoEmotions dev, 1,500 of its texts; the card has the figures of all."""
    texts = emotion_training.read(data_dir / "goemotions" / "dev.tsv", {})
    scores = model.score(texts.texts[:1500])
    y = texts.labels[:1500].astype(float)
    there = scores.present[:, : len(EMOTIONS)].astype(float)
    micro = 2 * (there * y).sum() / (there + y).sum()
    assert micro > MIN_MICRO - 0.02
    metrics = packaged.json("metrics.json")
    assert metrics["macroF1"] >= MIN_MACRO
    assert metrics["microF1"] >= MIN_MICRO
    assert abs(micro - metrics["microF1"]) < 0.03


def test_the_whole_encoder_is_fine_tuned_and_kept_where_that_is_asked_for(tmp_path, monkeypatch):
    """What was learned is in the bundle, and the texts that it is calibrated by were seen neither by the encoder nor by the head."""
    monkeypatch.setattr(finetune, "EPOCHS", 1)
    words = {"thank you": 15, "this is sad": 25, "a table": 27}
    rows = [f"{word} {number}\t{label}" for number in range(80) for word, label in words.items()]
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    seen, said = [], []
    tune = finetune.fine_tuned
    monkeypatch.setattr(finetune, "fine_tuned", lambda given, y, learn, *rest: (seen.append(learn), tune(given, y, learn, *rest))[1])
    heads = emotion_training.fit
    monkeypatch.setattr(emotion_training, "fit", lambda texts, learn, *rest: (seen.append(learn), heads(texts, learn, *rest))[1])
    calibrate = emotion_training.margins
    monkeypatch.setattr(emotion_training, "margins", lambda head, texts, by: (said.append(by), calibrate(head, texts, by))[1])
    bundle = MODELS["emotion"].train(tmp_path / "train.tsv", tmp_path / "out", mapping={}, seed=0, progress=silent, full=True)
    assert [len(one) for one in seen] == [180, 180]
    assert not set(said[0]) & set(seen[0])
    assert (bundle.manifest["encoder"]["fineTuned"], "fine-tuned" in bundle.read("card.md").decode()) == (True, True)
    model = EmotionModel.load(bundle)
    scores = model.score(["thank you 5", "this is sad 7"])
    assert "gratitude" in present(scores, 0)
    assert "sadness" in present(scores, 1)
    text = torch.from_numpy(minilm.pieces(["thank you"]).ids)[None]
    with torch.inference_mode():
        own = minilm.encoder(safetensors.torch.load(bundle.read("encoder.safetensors")))(text)
        assert not torch.allclose(own, minilm.encoder()(text), atol=1e-3)


TEXTS = ("Thank you so much, you are wonderful!", "This is disgusting and makes me furious.", "The parcel is on the table.", "why???")
WITHIN = 0.02  # of a probability: between a CPU and a GPU, and between the operator of x86 and its twin


def test_the_way_of_other_machines_has_the_same_probabilities_within_a_tolerance(packaged, model, monkeypatch):
    monkeypatch.setattr(quantized, "best", lambda device: quantized.Float32Linear)
    np.testing.assert_allclose(EmotionModel.load(packaged).score(TEXTS).probability, model.score(TEXTS).probability, atol=WITHIN)


@pytest.mark.gpu
def test_a_gpu_has_the_same_probabilities_within_a_tolerance(packaged, model):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here, or a torch that was built without it")
    np.testing.assert_allclose(EmotionModel.load(packaged, "cuda").score(TEXTS).probability, model.score(TEXTS).probability, atol=WITHIN)
