"""The documentation is complete, agrees with the code, builds without a warning, and its commands run."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
import typer.main
import yaml
from pydantic import BaseModel

import serving.engines
import serving.resources
import training.models
import training.tables
from serving import cli
from serving.auth.principals import ANONYMOUS
from serving.commands.columns import mapping
from serving.engines import ENGINES
from serving.errors import NoModelError, RevenueEngineError
from serving.ingress import problems
from serving.ingress.decoding.decoder import Decoder
from serving.ingress.http.lifecycle import State
from serving.metrics.collect import PREFIX
from serving.metrics.series import SERIES
from serving.resources import RESOURCES
from serving.resources.resource import ReplicaStatus, ResourceRequest
from serving.settings import Settings
from tests import customers
from tests.contracts.engines import EngineContract
from training.errors import TrainingError
from training.models import MODELS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BUILT = "_build"  # what `make docs` writes, absent before
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(page for page in DOCS.rglob("*.md") if BUILT not in page.parts),
)
MAX_README_BYTES = 12 * 1024
CUSTOMERS = 600
FOLDERS = ("serving", "training", "kernels", "configs", "tests", "benchmarks", "docker", "docs", "findings")
SHOWN = (  # on docs/design/layers.md
    "serving.engines.returns",
    "serving.resources.questions",
    "training.models.returns",
    "training.tables.deliveries",
)
DOCUMENTATION_ROUTES = ("/", "/docs", "/openapi.json")
RESOURCE_ROUTES = [resource.prefix + operation.path for resource in RESOURCES for operation in resource.operations]
OPERATORS = {"|", "||", "&&", ";", "&"}


class Block(NamedTuple):
    """One fenced block: where it is, its language, its text, and why it is not run; empty: it is run."""

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def place(self) -> str:
        """Return the file and the line, as an editor takes them."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    name = str(page.relative_to(ROOT))
    fence, begun, language, text, before, reason = "", 0, "", list[str](), "", ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if fence:
            if line.strip() == fence:
                yield Block(name, begun, language, "\n".join(text), reason)
                fence, before = "", ""
            else:
                text.append(line)
        elif opened := re.fullmatch(r"(`{3,})(\S*)\s*.*", line.strip()):
            fence, language, begun, text = opened[1], opened[2], number + 1, []
            said = re.fullmatch(r"<!-- not run: (.+) -->", before)
            reason = said[1] if said else ""
        else:
            before = line.strip()
    assert not fence, f"{name}:{begun}: the block is not closed"


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
RUN = sorted({block.page for block in COMMANDS if not block.not_run})


def commands(text: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell text as words, without operators, redirections and comments."""
    whole = ""
    for line in text.splitlines():
        whole += f"{line}\n"
        if line.endswith("\\"):
            whole = whole[:-2]
            continue
        lexer = shlex.shlex(whole, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation goes on in the next line
            continue
        whole = ""
        yield from _split(words)
    assert not whole.strip(), f"a quotation or a line is not closed: {whole}"


def _split(words: Sequence[str]) -> Iterator[list[str]]:
    command = list[str]()
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in OPERATORS:
            if command:
                yield command
            command = []
        elif set(word) <= set("<>&") or re.fullmatch(r"\d?[<>]+&?\d?", word):
            skip = "&" not in word
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):  # not a variable before the command
            command.append(word)
    if command:
        yield command


ALL = [(block, command) for block in COMMANDS for command in commands(block.text)]


def of(program: str) -> list[tuple[Block, list[str]]]:
    """Return the commands of all pages that call a program, with their arguments."""
    return [(block, command[1:]) for block, command in ALL if command[0] == program]


def leaves(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{before}{name}.")
        else:
            yield before + name


def section(page: Path, heading: str) -> str:
    """Return the text between `## heading` and the next heading of this level, "" where there is none."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def codes(error: type[Exception]) -> set[str]:
    """Return the codes of an error and of all errors below it."""
    own = {error.code} if hasattr(error, "code") else set()
    return own.union(*(codes(below) for below in error.__subclasses__() if below.__module__.startswith(("serving", "training"))))


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= MAX_README_BYTES


def test_the_readme_shows_both_commands_every_question_and_every_verb():
    text = README.read_text()
    for shown in ("make serve", "make test", "make docs", *(engine.route for engine in ENGINES)):
        assert shown in text
    for verb in ("train", "batch", "models", "simulate", "doctor"):
        assert f"revenue-engine {verb}" in text


def test_every_link_of_the_files_beside_the_documentation_resolves():
    found = [
        (page, target)
        for page in PAGES
        if page.parent == ROOT
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target
    ]
    assert found
    for page, target in found:
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_file_that_is_named_exists():
    pattern = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*|[A-Z]+\.md|Makefile|pyproject\.toml|constraints\.txt)`")
    named = [(page, name) for page in PAGES for name in pattern.findall(page.read_text()) if BUILT not in name]
    missing = [f"{page.relative_to(ROOT)}: {name}" for page, name in named if not list(ROOT.glob(name.rstrip("/")))]
    assert len(named) > 50
    assert missing == []


def test_the_layout_names_every_folder_of_the_repository():
    (layout,) = [block.text for block in blocks(README) if block.text.startswith("serving/ ")]
    shown = {line.split("/")[0] for line in layout.splitlines()}
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a checkout")
    folders = {name.split("/")[0] for name in tracked.stdout.split("\0") if "/" in name and not name.startswith(".")}
    assert folders <= shown


def test_every_setting_is_documented():
    text = (DOCS / "run" / "settings.md").read_text()
    assert [name for name in leaves(Settings) if f"`{name}`" not in text] == []


def test_every_metric_is_documented():
    text = (DOCS / "run" / "metrics.md").read_text()
    assert [name for name in SERIES if f"`{PREFIX}{name}`" not in text] == []


def test_every_problem_has_a_section_with_its_status_and_an_example():
    page = DOCS / "api" / "errors.md"
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##)", page.read_text(), re.MULTILINE | re.DOTALL))
    kinds = {getattr(error, "code", RevenueEngineError.code): kind for error, kind in problems.ALL.items()}
    assert set(sections) == set(kinds)
    for code, kind in kinds.items():
        (example,) = re.findall(r"```json\n(.*?)```", sections[code], re.DOTALL)
        shown = msgspec.json.decode(example, type=problems.Problem)
        assert (shown.type, shown.title, shown.status) == (f"/problems/{code}", kind.title, kind.status)
        assert f"Status {kind.status}." in sections[code]
        assert isinstance(shown.retry_after, int) == (kind.status in (429, 503) and code != NoModelError.code)  # waiting brings no model


def test_every_code_of_the_command_line_is_documented():
    text = (DOCS / "api" / "errors.md").read_text()
    of_the_api = {getattr(error, "code", RevenueEngineError.code) for error in problems.ALL} - {RevenueEngineError.code}
    for code in (codes(RevenueEngineError) | codes(TrainingError) | {"usage", "interrupted"}) - of_the_api:
        assert f"- `{code}`:" in text, code


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_question_has_a_page_with_every_field(engine):
    page = DOCS / "api" / f"{engine.name}.md"
    assert page.is_file(), f"{page.relative_to(ROOT)} is missing: document {engine.route} there"
    text, index = page.read_text(), DOCS / "api" / "index.md"
    fields = {field.encode_name for kind in (engine.request, engine.response) for field in msgspec.structs.fields(kind)}
    assert engine.route in text
    (contents,) = (block.text for block in blocks(index) if block.language == "{toctree}")
    assert engine.name in contents.splitlines(), f"{index.relative_to(ROOT)}: the toctree lacks {engine.name}"
    routes = section(index, "Routes")
    assert f"`POST {engine.route}`" in routes, f"{index.relative_to(ROOT)}: the list of routes lacks `POST {engine.route}`"
    assert sorted(name for name in fields if f"`{name}`" not in text) == []


def test_every_resource_is_documented():
    text = (DOCS / "api" / "index.md").read_text()
    assert [route for route in RESOURCE_ROUTES if f"`GET {route}`" not in text] == []


def test_every_model_has_its_table_and_its_metrics():
    for page in ("tables", "metrics"):
        lines = (DOCS / "train" / f"{page}.md").read_text().splitlines()
        lacking = [heading for name in MODELS if (heading := f"## {name.capitalize()}") not in lines]
        assert lacking == [], f"docs/train/{page}.md lacks sections"


def verbs(command: Any, name: str = "revenue-engine") -> Iterator[tuple[str, Any]]:
    """Yield every command below a group with the words that call it."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = command.make_context(name, ["--help"], resilient_parsing=True)
    for verb in command.list_commands(context):
        yield from verbs(command.get_command(context, verb), f"{name} {verb}")


def test_every_command_and_every_option_is_documented():
    text = "\n".join(page.read_text() for page in PAGES)
    found = dict(verbs(typer.main.get_command(cli.app)))
    assert len(found) > 10
    for name, command in found.items():
        assert name in text
        for option in (option for each in command.params if not each.hidden for option in each.opts if option.startswith("--")):
            assert option in text, f"{name} {option}"


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_the_answer_that_is_shown_has_exactly_the_fields_of_an_answer(engine):
    page = DOCS / "api" / f"{engine.name}.md"
    shown = re.findall(r"```json\n(.*?)```", section(page, "Answer"), re.DOTALL)[:1]
    fields = {field.encode_name for field in msgspec.structs.fields(engine.response)}
    assert shown, f"{page.relative_to(ROOT)}: below `## Answer` there is no json block: show an answer with exactly {sorted(fields)}"
    if engine.route in README.read_text().partition("<!-- curl:begin -->")[2].partition("<!-- curl:end -->")[0]:
        shown += [block.text for block in blocks(README) if block.language == "json"]
    for one in shown:
        assert set(json.loads(one)) == fields
        msgspec.json.decode(one, type=engine.response)


def test_commands_were_found():
    assert len(COMMANDS) >= 20
    assert len([block for block in COMMANDS if not block.not_run]) >= 5
    assert "README.md" in RUN
    assert {command[0] for _, command in ALL} >= {"revenue-engine", "make", "curl"}


def _parse(command: Any, arguments: list[str], parent: Any = None) -> None:
    """Parse a command line. Raises what the command line raises; options of another task are hidden parameters, which none may use."""
    context = command.make_context(command.name or "revenue-engine", arguments, parent)
    if hasattr(command, "list_commands"):
        _, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        _parse(below, rest, context)
    else:
        assert [each.opts for each in command.params if each.hidden and context.params[each.name] not in (None, False)] == []
        if context.params.get("maps"):
            mapping(context.params["maps"], command.name)


@pytest.mark.parametrize(("block", "arguments"), of("revenue-engine"), ids=lambda value: value.place if isinstance(value, Block) else "")
def test_the_command_line_accepts_every_command_that_is_shown(block, arguments):
    if arguments[0] in ("train", "batch") and arguments[1:] != ["--help"]:
        assert arguments[1] in MODELS, block.place
    try:
        _parse(typer.main.get_command(cli.app), list(arguments))
    except typer.Exit:
        assert set(arguments) & {"--help", "--version"}


def test_every_target_of_make_that_is_shown_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block, arguments in of("make"):
        for word in arguments:
            assert "=" in word or word in targets, f"{block.place}: make {word}"


def test_every_module_that_is_run_exists():
    for block, arguments in of("python") + of("python3"):
        if arguments[:1] == ["-m"]:
            assert find_spec(arguments[1]) is not None, f"{block.place}: {arguments[1]}"


def test_every_file_of_the_repository_that_a_command_names_exists():
    for block, command in ALL:
        for word in command[1:]:
            if re.match(rf"(?:{'|'.join(FOLDERS)})/", word):
                assert (ROOT / word).exists(), f"{block.place}: {word}"


def test_every_request_that_is_shown_is_accepted():
    decoders = {engine.route: Decoder(engine.request, engine.check, Settings().server.max_items) for engine in ENGINES}
    answered = set()
    for block, arguments in of("curl"):
        (address,) = [found for word in arguments if (found := re.fullmatch(r"(?:https?://[^/]*|\$\w+)(/[^?]*)?(?:\?.*)?", word))]
        path = address[1] or "/"
        if path not in decoders:
            patterns = [re.sub(r"\{\w+\}", "[^/]+", route) for route in (*DOCUMENTATION_ROUTES, "/problems/{code}", *RESOURCE_ROUTES)]
            assert any(re.fullmatch(pattern, path) for pattern in patterns), f"{block.place}: {path}"
            continue
        body = arguments[arguments.index(next(word for word in arguments if word in ("-d", "--data"))) + 1]
        if body.startswith("@"):
            continue
        decoder = decoders[path]
        items = decoder.split(body.encode()) if body.lstrip().startswith("[") else [body.encode()]
        read = [decoder.read(item) for item in items]
        assert all(isinstance(item, msgspec.Struct) for item in read), block.place
        answered.add(path)
    assert answered == set(decoders), f"no curl with a body is shown for {sorted(set(decoders) - answered)}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("json", "yaml", "python")], ids=lambda block: block.place)
def test_every_block_is_valid_in_its_language(block):
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "python":
        ast.parse(block.text)
    else:
        found = yaml.safe_load(block.text)
        if block.text.startswith("# settings"):
            Settings.model_validate(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page, tmp_path):
    """All commands of a page that are not marked `not run`, in their order, in one empty folder."""
    script = "\n".join(block.text for block in COMMANDS if block.page == page and not block.not_run)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REVENUE_ENGINE_HOME": str(tmp_path / ".revenue-engine"),
        "REVENUE_ENGINE_MODELS__REGISTRY": str(tmp_path / ".revenue-engine" / "models"),
    }
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, f"{script}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"


def with_added_lines(file: str) -> dict[str, Any]:
    """Return the names of a module of this repository with the lines that docs/design/layers.md adds to it.

    A block of language diff has them: `+++ FILE`, then of each place, after `@@`, lines of the file and the added ones behind them.
    """
    (diff,) = [block for block in blocks(DOCS / "design" / "layers.md") if f"+++ {file}\n" in block.text]
    source = (ROOT / file).read_text()
    for place in diff.text.split("@@\n")[1:]:
        lines = place.splitlines()
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] == " ")
        added = "".join(f"{line[1:]}\n" for line in lines if line[0] == "+")
        assert [line[0] for line in lines] == sorted(line[0] for line in lines), f"{diff.place}: added lines follow those of the file"
        assert source.count(before) == 1, f"{diff.place}: {file} does not have exactly once:\n{before}"
        source = source.replace(before, before + added)
    names: dict[str, Any] = {"__name__": file.removesuffix("/__init__.py").replace("/", "."), "__file__": str(ROOT / file)}
    exec(compile(source, file, "exec"), names)
    return names


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """The engine and a bundle of the question that docs/design/layers.md adds, made from the files and the lines that the page shows."""
    folder = tmp_path_factory.mktemp("documented")
    for block in blocks(DOCS / "design" / "layers.md"):
        if shown := re.match(r"# ((?:serving/engines|serving/resources|training/models|training/tables)/\S+\.py)\n", block.text):
            file = folder / shown[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text + "\n")
    customers.table(CUSTOMERS, 7).write_csv(folder / "customers.csv")
    with pytest.MonkeyPatch.context() as patch:
        for package in (serving.engines, serving.resources, training.models, training.tables):
            patch.setattr(package, "__path__", [*package.__path__, str(folder / package.__name__.replace(".", "/"))])
        engine = with_added_lines("serving/engines/__init__.py")["named"]("returns")
        model = with_added_lines("training/models/__init__.py")["MODELS"][engine.name]
        options = {option.name: "Yes" for option in model.train_options}
        bundle = model.train(folder / "customers.csv", folder / "bundle", mapping={}, seed=3, progress=lambda what, share: None, **options)
        yield engine, bundle
        for name in [name for name in sys.modules if name.startswith(SHOWN)]:
            del sys.modules[name]


class TestDocumentedQuestion(EngineContract):
    """The question that docs/design/layers.md adds keeps the contract of every engine."""

    @pytest.fixture
    def engine(self, documented):
        return documented[0]

    @pytest.fixture
    def scorer(self, documented):
        engine, bundle = documented
        return engine.load(bundle, Settings())

    def test_its_metrics_are_those_of_a_model_that_has_learned_and_its_card_has_them(self, documented):
        metrics, card = documented[1].json("metrics.json"), documented[1].read("card.md").decode()
        assert metrics["rows"] == CUSTOMERS
        assert 0.7 < metrics["auc"] < 1
        assert f"AUC {metrics['auc']:.4f}" in card

    def test_the_table_that_is_shown_plans_how_to_read_its_columns(self, documented):
        table = import_module("training.tables.deliveries").TABLE
        plan = table.plan(("order", "price", "note"), {"cost": "price"})
        assert (plan.numbers, plan.ignored, plan.whole) == (frozenset({"price"}), ("note",), False)

    async def test_the_resource_that_is_shown_returns_the_questions(self, documented):
        (operation,) = import_module("serving.resources.questions").QUESTIONS.operations
        replica = ReplicaStatus([SimpleNamespace(engine=engine) for engine in ENGINES], State(), None)
        found = await operation.respond(ResourceRequest(ANONYMOUS, {}, "", replica))
        assert [question.route for question in found.questions] == [engine.route for engine in ENGINES]


class Loaded(HTMLParser):
    """Collects what a page loads by itself: scripts, styles, icons, fonts and images, not the links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "object"):
            self.found.append(given.get("src") or given.get("data") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "search", "index"):
            self.found.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", DOCS, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    return folder


def test_the_site_builds_without_a_warning(site):
    assert (site / "index.html").is_file()
    assert len(list(site.rglob("*.html"))) > 30


def test_the_site_loads_nothing_from_another_host(site):
    for file in site.rglob("*.html"):
        page = Loaded()
        page.feed(file.read_text())
        assert page.found
        assert [source for source in page.found if re.match(r"(?:\w+:)?//", source)] == [], file.name
    for file in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//[^)\"']*", file.read_text()) == [], file.name
