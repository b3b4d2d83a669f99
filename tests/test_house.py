"""The repository itself: what is installed, what is pinned, and that its tables agree with each other."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

from serving.engines import ENGINES
from serving.metrics.collect import SERIES
from serving.settings import Settings
from training.models import MODELS

ROOT = Path(__file__).resolve().parent.parent


def test_exactly_one_distribution_provides_xgboost():
    assert len(set(packages_distributions()["xgboost"])) == 1


def test_constraints_are_public_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line)]
    assert lines
    assert wrong == []


def test_every_question_has_a_model():
    assert {engine.name for engine in ENGINES} == set(MODELS)


def test_the_settings_files_name_only_settings_that_exist():
    for file in ("base.yaml", "cpu.yaml", "gpu.yaml"):
        Settings.model_validate(yaml.safe_load((ROOT / "configs" / file).read_text()))
    (application,) = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text())["applications"]
    Settings.model_validate(application["args"])


def test_metric_names_follow_the_convention_of_prometheus():
    for name in SERIES:
        assert re.fullmatch(r"[a-z_]+", name)


def test_every_kernel_has_a_naive_twin():
    """Every public compiled function of kernels/ has a twin of its name in tests/naive/, in the file of its package."""
    kernels, twins = ROOT / "kernels", 0
    for module in sorted(kernels.rglob("*.py")):
        package = module.relative_to(kernels).parts[0].removesuffix(".py")
        for name in re.findall(r"^@on_cpu\ndef ([a-z]\w*)\(", module.read_text(), re.MULTILINE):
            naive = ROOT / "tests" / "naive" / f"{package}.py"
            assert naive.exists(), f"{module}: {name} has no twin, for {naive} does not exist"
            assert f"\ndef {name}(" in naive.read_text(), f"{module}: {name} has no twin in {naive}"
            twins += 1
    assert twins >= 30
