"""The peers: all of one shape, asked what they understand, believed only when they are right, and gone when they are done."""

import asyncio
import importlib
import json
import sys

import numpy as np
import psutil
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import environments, servers
from benchmarks.peers import bentoml as bento
from benchmarks.peers import mlserver, noop, ours_model, starlette, triton
from kernels.trees.forest import Forest

NAMES = sorted(file.stem for file in environments.PEERS.glob("*.py"))
ROWS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=17, max_size=17)

# Starts a process in a session of its own, says which, and answers every POST with 200.
STRAY = """
import http.server, subprocess, sys
stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[2], "w").write(str(stray.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A bare model of 17 columns."""
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 17)).astype(np.float32)
    y = random.random(500) < 1 / (1 + np.exp(-X[:, 0] - X[:, 1] * X[:, 2]))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1}, xgboost.DMatrix(X, y), 10)
    path = tmp_path_factory.mktemp("model") / "model.ubj"
    booster.save_model(path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_peer_has_the_same_few_names(name):
    module = importlib.import_module(f"benchmarks.peers.{name}")
    assert module.LABEL
    assert module.QUESTION in {"endpoint", "model"}
    assert isinstance(module.REQUIREMENTS, tuple)
    assert callable(module.start)
    assert module.__doc__


def test_no_two_peers_have_one_label():
    labels = [importlib.import_module(f"benchmarks.peers.{name}").LABEL for name in NAMES]
    assert len(set(labels)) == len(labels)


@given(ROWS)
def test_a_row_is_sent_to_the_last_bit(row):
    as_sent = {
        servers.features: lambda asked: asked["features"],
        bento.body: lambda asked: asked["rows"][0],
        mlserver.body: lambda asked: asked["inputs"][0]["data"],
        triton.body: lambda asked: asked["inputs"][0]["data"],
    }
    for body, found in as_sent.items():
        assert np.array_equal(np.float32(found(json.loads(body(row)))), np.float32(row))


@given(st.floats(0, 1))
def test_the_probability_is_the_number_after_the_marker(probability):
    assert servers.Target("").answer(b'{"version":0.5,"probability": %r}' % probability) == probability
    assert servers.Target("", marker="[").answer(b"[%r]" % probability) == probability


def test_an_answer_without_a_probability_is_no_answer():
    with pytest.raises(ValueError, match="no number after"):
        servers.Target("").answer(b'{"detail":"not found"}')


def test_a_peer_answers_rightly_and_leaves_no_process(model):
    before = set(psutil.Process().children(recursive=True))
    row = np.linspace(-1, 1, 17, dtype=np.float32)
    with starlette.start(model, servers.free_port()) as target:
        status, body = servers.post(target, target.body(row.tolist()))
        started = set(psutil.Process().children(recursive=True)) - before
    expected = xgboost.Booster(model_file=model).inplace_predict(row.reshape(1, -1))[0]
    assert (status, pytest.approx(target.answer(body), abs=1e-6)) == (200, expected)
    assert started
    assert not any(process.is_running() for process in started)
    with pytest.raises(ConnectionRefusedError):
        servers.post(target, b"{}")


def test_a_server_that_is_wrong_is_refused_and_ended(model):
    port = servers.free_port()
    target = servers.Target(f"http://127.0.0.1:{port}{noop.PATH}")
    command = [*servers.module(noop.__name__), str(port)]
    with pytest.raises(RuntimeError, match="XGBoost predicts"), servers.scoring(command, target, model, model.parent / "wrong.log"):
        pytest.fail("a constant passed for the model")
    with pytest.raises(ConnectionRefusedError):
        servers.post(target, b"{}")


def test_a_server_that_dies_is_reported_with_its_last_words(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('there is no model here')"]
    target = servers.Target(f"http://127.0.0.1:{servers.free_port()}/")
    with pytest.raises(RuntimeError, match="there is no model here"), servers.running(command, target, b"{}", tmp_path / "dead.log"):
        pytest.fail("it never answered")


def test_what_a_server_has_started_ends_with_it_also_after_a_failure(tmp_path):
    target = servers.Target(f"http://127.0.0.1:{(port := servers.free_port())}/")
    command = [sys.executable, "-c", STRAY, str(port), tmp_path / "pid"]
    strays = []

    def measure():
        with servers.running(command, target, b"{}", tmp_path / "stray.log"):
            strays.append(psutil.Process(int((tmp_path / "pid").read_text())))
            assert strays[0].is_running()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure()
    assert not strays[0].is_running() or strays[0].status() == psutil.STATUS_ZOMBIE


async def test_the_minimal_route_of_ours_answers_17_numbers_and_refuses_others(model):
    booster = xgboost.Booster(model_file=model)
    route = ours_model.Scoring(Forest.from_booster(booster))
    rows = np.random.default_rng(1).normal(size=(5, 17)).astype(np.float32)
    answers = await asyncio.gather(*(_asked(route, servers.features(row)) for row in rows.tolist()))
    assert [answer.status for answer in answers] == [200] * 5
    assert [json.loads(answer.body)["probability"] for answer in answers] == pytest.approx(booster.inplace_predict(rows).tolist(), abs=1e-6)
    for wrong in (b'{"features":[1,2]}', b'{"features":"no"}', b"not JSON", b"{}"):
        assert 400 <= (await _asked(route, wrong)).status < 500


def _asked(route, body):
    answer = asyncio.get_running_loop().create_future()
    route.begin({}, body, answer.set_result, 0.0)
    return answer
