"""Models that were learned from a simulated shop: their answers state it, and a setting refuses them."""

import msgspec
import pytest

from serving.engines import demo
from serving.engines.demo import DemoScorer
from serving.engines.purchase.scorer import PURCHASE, PurchaseScorer
from serving.settings import ModelSettings, Settings
from training.errors import BundleError
from training.registry import bundle as bundles


@pytest.fixture(scope="module")
def own(bundle, tmp_path_factory):
    """The bundle of a model with the same files, learned from a table of somebody's own."""
    files = {name: bundle.read(name) for name in bundle.manifest["files"]}
    meta = {name: value for name, value in bundle.manifest.items() if name not in ("format", "task", "version", "createdAt", "files")}
    meta["trainingData"] = {**meta["trainingData"], "simulated": False}
    return bundles.write(tmp_path_factory.mktemp("own") / "bundle", task=bundle.task, files=files, meta=meta)


def answered(scorer):
    request = PURCHASE.decode_example()
    return scorer.rows([request], scorer.run(scorer.columns([request])))[0]


def test_only_a_model_of_simulated_data_is_for_demonstration(bundle, own):
    simulated, real = (demo.load(PURCHASE, each, Settings()) for each in (bundle, own))
    assert (bundle.simulated, own.simulated) == (True, False)
    assert (demo.is_demo(simulated), demo.is_demo(real), demo.is_demo(None)) == (True, False, False)
    assert isinstance(real, PurchaseScorer)
    assert (answered(simulated).basis, answered(real).basis) == ("demo", "model")
    assert b'"basis":"demo"' in msgspec.json.encode(answered(simulated))


def test_a_base_rate_of_a_demonstration_model_states_it_too(bundle, own):
    simulated, real = (demo.load(PURCHASE, each, Settings()) for each in (bundle, own))
    assert simulated.base_rate(PURCHASE.decode_example()).basis == "demo"
    assert real.base_rate(PURCHASE.decode_example()).basis == "model"


def test_a_question_without_a_base_rate_has_none_in_a_demonstration_either():
    class Silent:
        version = "silent-1"
        refusal = columns = without_explanations = run = table = None

        def base_rate(self, request):
            return None

    assert DemoScorer(Silent()).base_rate(None) is None


def test_demonstration_models_are_refused_where_the_setting_says_so_and_others_are_not(bundle, own):
    settings = Settings(models=ModelSettings(allow_demo=False))
    with pytest.raises(BundleError, match=r"learned from a simulated shop, and models.allow_demo is false: train on your own data"):
        demo.load(PURCHASE, bundle, settings)
    assert not demo.is_demo(demo.load(PURCHASE, own, settings))


def test_what_was_measured_for_a_demonstration_model_is_copied_to_its_successor_of_the_same_shape(bundle):
    first, second = (demo.load(PURCHASE, bundle, Settings()) for _ in range(2))
    chosen = first.tune()
    assert second.tune(first) == chosen
    assert PURCHASE.load(bundle, Settings()).tune(demo.undecorated(first)) == chosen


@pytest.mark.parametrize(("allowed", "expected"), [(True, "basis: demo"), (False, "refused")])
def test_the_line_at_the_start_names_the_questions_and_what_to_do(allowed, expected):
    line = demo.notice(["purchase", "pricing"], allowed)
    assert line.startswith("WARNING: ")
    for part in ("purchase, pricing", "simulated shop", expected, "models.allow_demo"):
        assert part in line
