"""Clients that kept generators of PyPI and npm make from the server's OpenAPI document: they compile, and call a real server."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from serving.engines import ENGINES
from serving.ingress.api import build
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.http.lifecycle import State
from serving.metrics.collect import Metrics
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from serving.scoring.question import Question
from tests.serving.greeting import configured
from tests.serving.wire import serving

HERE = Path(__file__).parent
NAMES = {engine.name for engine in ENGINES}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command, folder, **environment):
    """Return what a command writes to standard output; one that fails fails the test with all that it wrote."""
    done = subprocess.run([str(word) for word in command], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def server(bundle_of):
    """The URL of a server that answers every question, over HTTP, with models of this session."""
    settings, state = configured(default_timeout_ms=20_000), State(ready=True)
    with ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(1))
        cache = Cache(LruCache(1_000_000), None, settings.cache.ttl_s)
        questions = [Question(engine, settings, executor, cache) for engine in ENGINES]
        for question in questions:
            question.switch(question.engine.load(bundle_of(question.engine.name), settings))
        process = ReadingProcess()
        application = build(questions, state, settings, Metrics(), process)
        running = stack.enter_context(serving(application, application.route_table, state))
        yield f"http://127.0.0.1:{running.port}"
        asyncio.run_coroutine_threadsafe(process.aclose(), running.loop).result(20)


@pytest.fixture(scope="module")
def document(server, tmp_path_factory):
    """The server's document, in a file."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(urlopen(f"{server}/openapi.json", timeout=30).read())
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The bin folder of an environment of its own, with the generators of Python clients."""
    folder = tmp_path_factory.mktemp("python")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    run(folder / "venv/bin/pip", "install", "--quiet", "--requirement", HERE / "python/requirements.txt", folder=folder)
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the generators of TypeScript clients, and the sources of ours."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm: apt install nodejs npm")
    folder = tmp_path_factory.mktemp("typescript")
    for file in (HERE / "typescript").iterdir():
        shutil.copy(file, folder)
    run("npm", "ci", "--no-audit", "--no-fund", folder=folder)
    return folder


@pytest.fixture(scope="module")
def answers(server, document, python, tmp_path_factory):
    """{question: the answer to its example}, as the client that openapi-python-client generated returns it."""
    folder = tmp_path_factory.mktemp("client")
    generate = (
        python / "openapi-python-client",
        "generate",
        "--fail-on-warning",
        "--path",
        document,
        "--output-path",
        folder / "generated",
    )
    run(*generate, folder=folder, PATH=f"{python}:{os.environ['PATH']}")
    called = run(
        python / "python", HERE / "python/call_generated.py", server, document, folder=folder, PYTHONPATH=str(folder / "generated")
    )
    return json.loads(called)


def test_a_client_of_openapi_python_client_calls_every_question(answers):
    assert answers.keys() == NAMES
    assert all(answer["modelVersion"] for answer in answers.values())


def test_models_of_datamodel_code_generator_read_every_answer(answers, document, python, tmp_path):
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    options = ("--output-model-type", "pydantic_v2.BaseModel", "--disable-timestamp", "--formatters", "builtin")
    run(python / "datamodel-codegen", "--input", document, "--output", tmp_path / "revenue_engine_models.py", *options, folder=tmp_path)
    script = (python / "python", HERE / "python/validate_models.py", tmp_path / "answers.json", document)
    run(*script, folder=tmp_path, PYTHONPATH=str(tmp_path))


def test_types_of_openapi_typescript_compile_and_their_client_calls_every_question(server, document, node):
    run("npx", "openapi-typescript", document, "-o", "schema.d.ts", folder=node)
    run("npx", "tsc", "--project", "tsconfig.json", folder=node)
    called = json.loads(run("node", "built/client.js", server, folder=node))
    assert 0 <= called["probability"] <= 1
    assert len(set(called["versions"])) == len(NAMES)
    assert (called["status"], called["field"]) == (422, "X-Request-Timeout-Ms")


def test_an_sdk_of_hey_api_compiles(document, node):
    run("npx", "openapi-ts", "-i", document, "-o", "sdk", folder=node)
    options = ("--strict", "--noEmit", "--skipLibCheck", "--module", "ESNext", "--moduleResolution", "bundler", "--target", "ES2022")
    run("npx", "tsc", *options, "sdk/index.ts", folder=node)
