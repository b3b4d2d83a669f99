import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from serving import cli
from serving.engines import named
from training.datasets.shop import shop
from training.models import MODELS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    *(name for name, _ in (*cli.COMMANDS, *cli.TASK_VERBS)),
    *(f"{group} {verb}" for group, verbs, _ in cli.GROUPS for verb, _ in verbs),
]


@pytest.fixture
def asked(capsys):
    """Run a command line in this process: its exit code, standard output and standard error."""

    def run(*words):
        code = cli.run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def answer(asked):
    """Run a command line with --json and return the object, which is all there is on standard output."""

    def run(*words):
        code, out, _ = asked(*words, "--json")
        assert out.count("\n") == 1
        return code, json.loads(out)

    return run


def process(*words, code="", **options):
    command = [sys.executable, *(["-c", code] if code else ["-m", "serving.cli", *map(str, words)])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_the_commands_of_the_design_are_there():
    models = [f"models {verb}" for verb in ("list", "show", "card", "compare", "add", "promote", "rollback", "delete")]
    assert set(COMMANDS) == {"serve", "train", "batch", "simulate", "doctor", "evaluate", "explain", *models}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_seed_json_and_quiet(asked, command):
    code, out, _ = asked(*command.split(), "--help")
    assert code == 0
    assert all(option in out for option in ("--seed", "--json", "--quiet"))


@pytest.mark.parametrize("verb", [verb for verb, _ in cli.TASK_VERBS])
def test_the_help_of_a_verb_lists_every_task_and_where_its_options_are(asked, verb):
    code, out, _ = asked(verb, "--help")
    assert code == 0
    assert [line.split()[0] for line in out.partition("Tasks:")[2].splitlines() if line.startswith("  ")][: len(MODELS)] == list(MODELS)
    assert f"revenue-engine {verb} TASK --help" in out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mod", {"models"}),
        ("ex", {"explain"}),
        ("models de", {"delete"}),
        ("train pu", {"purchase"}),
        ("batch churn --fac", {"--factors"}),
        ("train value --sp", {"--split"}),
    ],
)
def test_a_shell_completes_commands_tasks_and_options(words, completed):
    environment = {**os.environ, "_REVENUE_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": f"revenue-engine {words}"}
    done = process(env={**environment, "COMP_CWORD": str(len(words.split()))})
    assert set(done.stdout.split()) == completed


def test_completion_is_installed_for_the_shell_by_an_option(asked):
    out = asked("--help")[1]
    assert "--install-completion" in out
    assert "--show-completion" in out


@pytest.mark.parametrize("task", MODELS)
def test_the_help_of_a_task_lists_its_own_options_alone(asked, task):
    for verb, declared in (("train", lambda model: model.train_options), ("batch", lambda model: model.batch_options)):
        code, out, _ = asked(verb, task, "--help")
        assert code == 0
        own = {option.flag for option in declared(MODELS[task])}
        for flag in {option.flag for model in MODELS.values() for option in declared(model)}:
            assert (f"  {flag} " in out) == (flag in own)
    assert ("--publish" in out) == (named(task).lookup is not None)


def test_help_loads_nothing_heavy():
    heavy = "{'numpy', 'ray', 'polars', 'numba', 'xgboost', 'pyarrow', 'msgspec', 'yaml', 'rich'}"
    done = process(code=f"import sys; from serving import cli; cli.run(['batch', '--help']); print({heavy} & set(sys.modules))")
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nosuch", "No such command"),
        ("serv", "No such command 'serv'. Did you mean 'serve'?"),
        ("models lst", "No such command 'lst'. Did you mean 'list'?"),
        ("train purchase --dta x", "No such option: --dta (Possible options: --data"),
        ("batch purchase --model m --input i --ouput o", "No such option: --ouput (Possible options: --input, --output)"),
        ("models rollback purchse", "unknown task 'purchse' (did you mean 'purchase'?)"),
        ("train", "Missing argument 'TASK'"),
        ("train purchases", "unknown task 'purchases' (did you mean 'purchase'?); known: purchase"),
        ("train purchase --data x.csv", "missing option --out"),
        ("batch purchase --model m --output o.csv", "missing option --input"),
        ("batch price --column-help", "unknown task 'price'"),
        ("batch purchase --model m --input i --output o --map month", "is not FIELD=COLUMN"),
        ("batch purchase --model m --input i --output o --map monht=M", "no field 'monht' (did you mean 'month'?)"),
        ("train purchase --data i --out o --map month=A --map month=B", "month twice"),
        ("train purchase --data i --out o --positive Yes", "--positive does not apply to purchase"),
        ("batch value --model m --input i --output o --first 3", "--first does not apply to value"),
        ("batch churn --model m --input i --output o --publish", "--publish does not apply to churn"),
        ("batch journey --model m --input i --output o --first 0", "--first"),
        ("batch purchase --model m --input i.csv --output o.txt", ".txt is not known"),
        ("simulate --sessions 0 --out o", "--sessions"),
        ("serve --port 99999", "--port"),
        ("models rollback nosuch", "unknown task 'nosuch'"),
        ("models list --nosuch", "--nosuch"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(asked, words, said):
    code, out, err = asked(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err


def test_a_mapped_column_that_the_table_lacks_is_wrong_usage(asked, tmp_path):
    (tmp_path / "in.csv").write_text("Month,Region\n1,2\n")
    for words in (["train", "purchase", "--data"], ["batch", "purchase", "--model", "m", "--output", "o.csv", "--input"]):
        code, _, err = asked(*words, tmp_path / "in.csv", "--out" if words[0] == "train" else "--model", "m", "--map", "region=Regoin")
        assert code == 2
        assert "in.csv has no column 'Regoin' (did you mean 'Region'?)" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("train purchase --data {tmp}/nosuch.csv --out {tmp}/o", "table", "nosuch.csv: no such file"),
        ("batch purchase --model {tmp}/nosuch --input i --output o.csv", "bundle", "nosuch"),
        ("simulate --sessions 9 --out {tmp}", "output", "not an empty folder"),
        ("models show nosuch --registry {tmp}", "registry", "nosuch"),
        ("serve --config {tmp}/nosuch.yaml", "settings", "nosuch.yaml"),
        ("doctor --config {tmp}/nosuch.yaml", "settings", "nosuch.yaml"),
    ],
)
def test_a_failure_exits_with_1_in_words_or_as_json(asked, answer, tmp_path, words, code, said):
    (tmp_path / "in.txt").touch()
    words = words.format(tmp=tmp_path).split()
    exit_code, out, err = asked(*words)
    assert (exit_code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    exit_code, data = answer(*words)
    assert exit_code == 1
    assert data == {"error": {"code": code, "message": err.removeprefix("error: ").rstrip("\n")}}


def test_exit_codes_leave_the_process(tmp_path):
    assert process("train", "nosuch").returncode == 2
    assert process("models", "show", "nosuch", "--registry", tmp_path).returncode == 1
    done = process("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "revenue-engine")


def test_a_bug_is_a_short_message_and_with_debug_a_traceback(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(shop, "simulate", lambda *_: 1 / 0)
    code, _, err = asked("simulate", "--sessions", 1, "--out", tmp_path / "o")
    assert (code, err.count("\n")) == (1, 1)
    assert "ZeroDivisionError: division by zero" in err
    monkeypatch.setenv(cli.DEBUG, "1")
    assert "Traceback" in asked("simulate", "--sessions", 1, "--out", tmp_path / "o")[2]


@pytest.fixture
def interruptible():
    """Have SIGINT raise KeyboardInterrupt even where whoever started the tests has it ignored, as a shell does in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_a_failure_without_a_traceback(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(shop, "simulate", lambda *_: signal.raise_signal(signal.SIGINT))
    assert asked("simulate", "--sessions", 1, "--out", tmp_path / "o")[::2] == (1, "error: interrupted; nothing half-written is left\n")


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "serving.cli", "--help"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_what_a_library_prints_does_not_get_into_the_json(answer, monkeypatch, tmp_path):
    real = shop.simulate
    monkeypatch.setattr(shop, "simulate", lambda *words: (sys.stdout.write("hello"), real(*words))[1])
    assert answer("simulate", "--sessions", 20, "--out", tmp_path / "o")[0] == 0


def test_simulate_writes_the_same_shop_for_the_same_seed(asked, answer, tmp_path):
    code, out, _ = asked("--seed", 5, "simulate", "--sessions", 50, "--out", tmp_path / "a")
    assert code == 0
    assert "simulated 50 sessions (seed 5)" in out
    code, data = answer("simulate", "--sessions", 50, "--out", tmp_path / "b", "--seed", 5)
    assert (code, data["sessions"], data["seed"]) == (0, 50, 5)
    assert {"sessions.parquet", "requests.ndjson", "truth.parquet"} < set(data["files"])
    assert pl.read_parquet(tmp_path / "a" / "sessions.parquet").equals(pl.read_parquet(tmp_path / "b" / "sessions.parquet"))


def test_column_help_names_every_field_with_its_unit_and_published_column(asked, answer):
    fields = MODELS["purchase"].table.fields
    for command in ("train", "batch"):
        code, out, _ = asked(command, "purchase", "--column-help")
        assert code == 0
        for field in fields:
            (line,) = (line for line in out.splitlines() if line.split()[0] == field.name)
            assert field.unit in line
            assert field.need(command) in line
            assert line.endswith(field.published or "-")
        assert [field["name"] for field in answer(command, "purchase", "--column-help")[1]["fields"]] == [f.name for f in fields]


def test_a_model_goes_through_the_registry(asked, answer, bundle, second_bundle, tmp_path):
    here = ("--registry", tmp_path / "registry")
    assert asked("models", "list", *here)[0] == 0
    assert "to serve it: revenue-engine models promote purchase/first" in asked("models", "add", bundle.path, "--name", "first", *here)[1]
    assert answer("models", "add", second_bundle.path, "--alias", "champion", *here)[1]["aliases"] == ["champion"]
    assert answer("models", "promote", "purchase/first", "--force", *here)[1]["name"] == "first"
    assert answer("models", "show", "purchase@champion", *here)[1]["version"] == bundle.version
    assert answer("models", "rollback", "purchase", *here)[1]["name"] == second_bundle.version
    listed = answer("models", "list", *here)[1]["models"]
    assert {entry["name"]: entry["aliases"] for entry in listed} == {"first": [], second_bundle.version: ["champion"]}
    out = asked("models", "list", *here)[1]
    assert f"auc={bundle.json('metrics.json')['auc']:.4g}" in next(line for line in out.splitlines() if " first " in line)


def test_batch_scores_with_a_folder_and_with_a_champion_alike(asked, answer, bundle, registry, registry_url, shop_folder, tmp_path):
    pl.read_parquet(shop_folder / "sessions.parquet").head(30).write_csv(tmp_path / "in.csv")
    given = ("batch", "purchase", "--input", tmp_path / "in.csv")
    code, out, err = asked(*given, "--model", bundle.path, "--output", tmp_path / "1.csv")
    assert (code, err) == (0, "")
    assert "scored 30 rows" in out
    assert out.count("purchased") == 1
    code, data = answer(*given, "--model", "purchase@champion", "--registry", registry_url, "--output", tmp_path / "2.csv")
    assert (code, data["rows"], data["model"], data["by"]) == (0, 30, bundle.version, "in process")
    assert data["seconds"] > 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert asked(*given, "--model", bundle.path, "--output", tmp_path / "3.csv", "--quiet") == (0, "", "")


def test_train_writes_a_bundle_and_says_how_good_it_is(asked, monkeypatch, bundle, tmp_path):
    monkeypatch.setattr(type(MODELS["purchase"]), "train", lambda *_, **__: bundle)
    code, out, _ = asked("train", "purchase", "--data", "in.csv", "--out", tmp_path / "m")
    assert code == 0
    assert bundle.version in out
    assert f"auc={bundle.json('metrics.json')['auc']:.4g}" in out
    assert f"revenue-engine models add {tmp_path / 'm'}" in out


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("pricing --effects product,store", {"effects": ("product", "store")}),
        ("pricing", {}),
        ("value --split 2026-01-01 --score out.csv", {"split": "2026-01-01", "score": Path("out.csv")}),
        ("emotion --full", {"full": True}),
        ("emotion", {}),
    ],
)
def test_train_passes_the_options_of_a_task_that_were_given(asked, monkeypatch, bundle, tmp_path, words, given):
    passed = {}
    monkeypatch.setattr(type(MODELS["purchase"]), "train", lambda *_, **options: passed.update(options) or bundle)
    assert asked("train", *words.split(), "--data", "in.csv", "--out", tmp_path / "m")[0] == 0
    assert {name: value for name, value in passed.items() if name not in ("mapping", "cells", "seed", "progress")} == given


def test_train_requires_the_positive_label_and_warns_of_a_column_that_leaks_it(asked, customers_csv, tmp_path):
    table = pl.read_csv(customers_csv, infer_schema=False).with_columns(pl.col("Churn").replace({"Yes": "gone", "No": "here"}))
    table.with_columns(why=pl.col("Churn") + "!").write_csv(tmp_path / "in.csv")
    given = ("train", "churn", "--data", tmp_path / "in.csv", "--out", tmp_path / "m")
    code, _, err = asked(*given)
    assert code == 1
    assert "holds gone, here: which one is the label of customers who left? Name it with --positive TEXT" in err
    code, out, _ = asked(*given, "--positive", "gone")
    assert code == 0
    assert "warning: AUC 1.0000 is implausible for churn" in out
    assert "--map leftOut=why" in out


def test_column_help_says_whose_names_are_published(asked):
    assert "(UCI 468, Sakar & Kastro 2018)" in asked("train", "purchase", "--column-help")[1]
    assert "(IBM's Telco sample)" in asked("train", "churn", "--column-help")[1]


def test_doctor_says_what_is_here_and_what_mends_what_is_not(asked, answer, bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("REVENUE_ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REVENUE_ENGINE_MODELS__REGISTRY", str(tmp_path / "registry"))
    code, data = answer("doctor")
    assert (code, data["ready"]) == (0, True)
    assert {"Python", "cores", "memory", "GPU", "XGBoost", "shared cache", "purchase@champion", "disk"} <= {
        f["name"] for f in data["findings"]
    }
    assert asked("models", "add", bundle.path, "--name", "first", "--alias", "champion")[0] == 0
    (tmp_path / "registry" / "purchase" / "first" / "model.ubj").write_bytes(b"")
    code, out, _ = asked("doctor")
    assert code == 1
    assert "the server cannot start without purchase@champion" in out
    assert "fix: revenue-engine models rollback purchase" in out
