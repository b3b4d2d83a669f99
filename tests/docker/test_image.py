"""The image and its composition: a user of its own, a root that is only read, and what the server needs to run so."""

import re
from pathlib import Path

import pytest
import yaml

from serving.runtime.isolation import remote_access
from serving.settings import load

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
ENGINE = COMPOSE["services"]["engine"]
HOME = "/var/lib/revenue-engine"


def instructions():
    """Return (stage, instruction, arguments) of the Dockerfile, with its continued lines joined."""
    found, stage = [], ""
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "FROM":
            stage = rest.split()[-1]
        found.append((stage, word, " ".join(rest.split())))
    return found


def environment(*stages):
    """Return the environment that these stages set."""
    words = " ".join(rest for stage, word, rest in instructions() if word == "ENV" and stage in stages)
    return dict(re.findall(r"(\w+)=(\S+)", words))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_every_target_runs_as_a_user_of_its_own(target):
    users = [rest for stage, word, rest in instructions() if word == "USER" and stage == target]
    assert users == ["revenue-engine"]
    assert [word for stage, word, _ in instructions() if stage == target][-1] == "USER"
    made = next(rest for _, word, rest in instructions() if word == "RUN" and "useradd" in rest)
    assert re.search(r"--uid 1\d{4}\b", made)
    assert f"--owner=revenue-engine --group=revenue-engine --mode=0700 {HOME}" in made


def test_all_that_the_server_writes_is_under_the_volume_or_temporary():
    set_ = environment("base", "cpu")
    for name in ("HOME", "NUMBA_CACHE_DIR", "REVENUE_ENGINE_HOME", "REVENUE_ENGINE_MODELS__REGISTRY"):
        assert Path(set_[name]) == Path(HOME) or Path(HOME) in Path(set_[name]).parents
    assert [rest for _, word, rest in instructions() if word == "VOLUME"] == [HOME]
    assert ENGINE["volumes"] == [f"models:{HOME}"]
    assert ENGINE["read_only"] is True
    assert [place.split(":")[0] for place in ENGINE["tmpfs"]] == ["/tmp"]


@pytest.mark.parametrize("stages", [("base", "cpu"), ("base", "gpu")], ids=["cpu", "gpu"])
def test_the_settings_of_the_image_are_valid_and_listen_where_a_container_is_reached(stages, monkeypatch):
    for name, value in {**environment(*stages), **ENGINE["environment"]}.items():
        if name.startswith("REVENUE_ENGINE_"):
            monkeypatch.setenv(name, str(value))
    settings = load()
    assert settings.server.host == "0.0.0.0"
    assert remote_access.warning(settings.server) is not None
    assert settings.device == ("cuda" if "gpu" in stages else "auto")
    assert settings.features.redis_url == "redis://features:6379"
    assert settings.cache.redis_url == "redis://cache:6379"


def test_the_port_is_published_on_the_loopback_interface_alone():
    assert ENGINE["ports"] == ["127.0.0.1:8000:8000"]


def test_pytorch_comes_from_where_make_takes_it():
    wanted = re.search(r"TORCH_INDEX \?= \$\(if \$\(filter cpu,\$\(EXTRA\)\),(\S+)\)", (ROOT / "Makefile").read_text())
    assert wanted is not None
    assert ("cpu", "ARG", f"TORCH_INDEX={wanted[1]}") in instructions()
    assert any("--extra-index-url" in rest and "$index" in rest for stage, word, rest in instructions() if (stage, word) == ("cpu", "RUN"))


def test_every_service_starts_again_and_is_bounded_in_memory_and_processors():
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert {"mem_limit", "cpus"} <= set(service), name
        assert service["read_only"] is True, name
    assert ENGINE["cap_drop"] == ["ALL"]
    assert ENGINE["security_opt"] == ["no-new-privileges:true"]
    assert int(ENGINE["stop_grace_period"].removesuffix("s")) > 30


def test_the_server_waits_for_its_stores_and_features_outlive_them():
    stores = {name: service for name, service in COMPOSE["services"].items() if name != "engine"}
    assert set(ENGINE["depends_on"]) == set(stores) == {"cache", "features"}
    assert all(service["healthcheck"] for service in stores.values())
    command = stores["features"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert stores["features"]["volumes"] == ["features:/data"]
    assert set(COMPOSE["volumes"]) == {"models", "features"}


def test_nothing_but_what_is_copied_into_the_image_is_sent_to_the_builder():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = {word for _, name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]}
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    assert "**/__pycache__" in lines
