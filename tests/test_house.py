"""The house itself: what is installed, what is pinned, and that the README tells the truth about what is here."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

from serving.engines import ENGINES
from serving.metrics.collect import SERIES
from serving.settings import Settings
from training.models import MODELS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_exactly_one_distribution_provides_xgboost():
    assert len(set(packages_distributions()["xgboost"])) == 1


def test_constraints_are_public_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line)]
    assert lines
    assert wrong == []


def test_every_question_has_a_model_and_is_in_the_readme():
    assert {engine.name for engine in ENGINES} == set(MODELS)
    for engine in ENGINES:
        assert engine.route in README


def test_the_readme_shows_both_commands_and_every_command_of_the_command_line():
    for command in ("make serve", "make test", *(f"revenue-engine {verb}" for verb in ("train", "batch", "models", "simulate", "doctor"))):
        assert command in README


def test_every_file_that_the_readme_names_is_there():
    named = set(re.findall(r"`((?:serving|training|kernels|configs|tests|benchmarks|docker)/[\w./-]*)`", README))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert named
    assert missing == []


def test_the_settings_files_name_only_settings_that_exist():
    for file in ("base.yaml", "cpu.yaml", "gpu.yaml"):
        Settings.model_validate(yaml.safe_load((ROOT / "configs" / file).read_text()))
    (application,) = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text())["applications"]
    Settings.model_validate(application["args"])


def test_metric_names_follow_the_convention_of_prometheus():
    for name in SERIES:
        assert re.fullmatch(r"[a-z_]+", name)


def test_every_kernel_has_a_slow_obvious_twin():
    """Every public compiled function of kernels/ has its name in tests/naive.py."""
    naive = (ROOT / "tests" / "naive.py").read_text()
    for module in (ROOT / "kernels").glob("*.py"):
        for name in re.findall(r"^@on_cpu\ndef ([a-z]\w*)\(", module.read_text(), re.MULTILINE):
            assert f"def {name}(" in naive, f"kernels/{module.name}: {name}"
