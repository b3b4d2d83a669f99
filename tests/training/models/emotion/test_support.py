"""Frustration is calibrated for support messages: checked on sentences that nothing was fitted on."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from training.errors import BundleError
from training.evaluation import metrics as evaluate
from training.models import MODELS
from training.models.emotion import model as emotion
from training.models.emotion import support
from training.models.emotion.encoder import WIDTH
from training.models.emotion.model import FEATURES, EmotionModel
from training.models.emotion.support import STATES, SupportHead
from training.registry import bundle as bundles

CHECK = Path(__file__).with_name("support_check.tsv")
MAX_ECE, MIN_RECALL, MAX_FALSE_ALARMS = 0.1, 0.85, 0.1


@pytest.fixture(scope="module")
def packaged():
    return bundles.load(MODELS["emotion"].default)


@pytest.fixture(scope="module")
def model(packaged):
    return EmotionModel.load(packaged)


@pytest.fixture(scope="module")
def check():
    """Return the labels float64 [messages] and the messages of the check set."""
    rows = [line.split("\t") for line in CHECK.read_text().splitlines() if not line.startswith("#")]
    return np.array([row[0] for row in rows], np.float64), [row[1] for row in rows]


def frustration(model, *texts):
    return model.score(texts).probability[:, -1]


def test_the_check_set_has_100_complaints_and_100_others_and_shares_no_message_with_the_calibration(check):
    y, texts = check
    assert (y.sum(), len(set(texts))) == (100, 200)
    own = {text.casefold().strip() for text in support.messages().texts}
    assert not own & {text.casefold().strip() for text in texts}


def test_frustration_of_the_check_set_is_calibrated(model, check):
    y, texts = check
    assert evaluate.ece(y, frustration(model, *texts)) <= MAX_ECE


def test_complaints_of_the_check_set_reach_the_threshold_and_few_others_do(model, check):
    y, texts = check
    above = frustration(model, *texts) >= model.frustration_threshold
    assert above[y == 1].mean() >= MIN_RECALL
    assert above[y == 0].mean() <= MAX_FALSE_ALARMS


@pytest.mark.parametrize(
    "text",
    [
        "This is my third reminder, kindly reply.",
        "I would be grateful for a refund, since the parcel never came.",
    ],
)
def test_a_request_for_money_a_reminder_and_a_long_wait_are_frustration_also_in_polite_words(model, text):
    assert frustration(model, text)[0] >= model.frustration_threshold


@pytest.mark.parametrize("text", ["I want my money back now", "Where is my order? I have been waiting three weeks."])
def test_a_demand_and_a_wait_of_weeks_are_clearly_above_the_threshold(model, text):
    assert frustration(model, text)[0] > model.frustration_threshold + 0.1


@pytest.mark.parametrize("text", ["Thank you!", "Do you ship to Norway?", "How do refunds work?", "The problem is solved, thanks."])
def test_thanks_and_questions_are_not_frustration(model, text):
    assert frustration(model, text)[0] < model.frustration_threshold - 0.2


def test_the_card_and_the_metrics_state_the_threshold_and_how_it_was_found(model, packaged):
    figures = packaged.json(emotion.METRICS)["frustration"]
    assert figures["threshold"] == model.frustration_threshold
    assert (figures["texts"], figures["sha256"]) == (len(support.messages().texts), support.messages().sha256)
    card = packaged.read(emotion.CARD).decode()
    assert f"**{model.frustration_threshold:.2f}**" in card
    assert figures["sha256"] in card


def test_a_bundle_without_the_line_has_the_general_calibration(packaged, model, tmp_path):
    names = [name for name in packaged.manifest["files"] if name != emotion.SUPPORT]
    older = bundles.write(tmp_path / "older", task="emotion", files={name: packaged.read(name) for name in names}, meta={})
    texts = ["I want my money back now", "Thank you!"]
    ours, theirs = model.score(texts).probability, EmotionModel.load(older).score(texts).probability
    assert np.array_equal(ours[:, :-1], theirs[:, :-1])
    assert theirs[0, -1] < ours[0, -1]


def test_a_line_of_another_shape_is_refused(packaged, tmp_path):
    files = {name: packaged.read(name) for name in packaged.manifest["files"]}
    content = safetensors.torch.load(files[emotion.SUPPORT])
    files[emotion.SUPPORT] = safetensors.torch.save({**content, "states": content["states"][:1].contiguous()})
    with pytest.raises(BundleError, match="shape"):
        EmotionModel.load(bundles.write(tmp_path / "wrong", task="emotion", files=files, meta={}))


def test_the_margin_is_a_line_over_directions_of_states():
    random = np.random.default_rng(0)
    states, features = random.normal(size=(len(STATES), WIDTH)).astype(np.float32), random.normal(size=FEATURES)
    head, expected = SupportHead(0.5, states, -1.0), 0.5 * 2.0 - 1.0
    for place, layer in enumerate(STATES):
        mean = features[layer * WIDTH : (layer + 1) * WIDTH]
        expected += states[place].astype(float) @ (mean / np.linalg.norm(mean))
    assert head.margin(features, 2.0) == pytest.approx(expected)
    back = SupportHead.unpacked(head.packed())
    assert back.margin(features, 2.0) == head.margin(features, 2.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_keeps_the_share_of_false_alarms(seed):
    random = np.random.default_rng(seed)
    y = (random.random(500) < 0.5).astype(float)
    stated = np.clip(0.3 * y + 0.7 * random.random(500), 0, 1)
    limit = support.threshold(stated, y)
    assert (stated[y == 0] >= limit).mean() <= MAX_FALSE_ALARMS
    assert (stated[y == 0] >= limit - 0.011).mean() > MAX_FALSE_ALARMS - 0.02
