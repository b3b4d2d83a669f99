"""Run command lines in this process."""

import json

import pytest

from serving import cli


@pytest.fixture
def asked(capsys):
    """Run a command line: its exit code, standard output and standard error."""

    def run(*words):
        code = cli.run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def answer(asked):
    """Run a command line with --json and return the exit code and the object, which is all there is on standard output."""

    def run(*words):
        code, out, _ = asked(*words, "--json")
        assert out.count("\n") == 1
        return code, json.loads(out)

    return run
