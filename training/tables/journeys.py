"""Read sessions with their events as columns.

A folder with `events` and `sessions` (.csv, .csv.gz or .parquet each), or one file of events; a simulated shop is such a folder. Columns
of sessions without a field are their attributes: numbers, known when a session begins.

The steps of a session are the pages that are shown, and other events that have a `type` in the table.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from kernels.sessions.friction import KINDS
from kernels.types import F32, F64, I64, Bool
from training.datasets.shop import journeys
from training.errors import CellError, TableError
from training.tables import frames
from training.tables.table import Field, FieldColumns, Grain, Mapped, ReadPlan, TableKind, check, listed

SESSION, PAGE_KIND, TYPE, SECONDS, STEP, LABEL, SPLIT, ENDED, LEFT_OUT = (
    *("sessionId", "pageKind", "type", "seconds", "step", "purchase", "split", "sessionEnded", "leftOut"),
)
VALUE, CHURNED, CURRENCY = "orderValue", "churned", "currency"
FIELDS: tuple[Field, ...] = (
    Field(SESSION, "text or number, in both files", "yes", "session_id"),
    Field(PAGE_KIND, "text or number: the kind of page, or the name of a step", "yes", "page"),
    Field(TYPE, "page_view, or another event such as add_to_cart", "no: every row is a page view"),
    Field(SECONDS, "seconds since the session began", "yes", "cum_time_s"),
    Field(STEP, "number: the order of events of the same second", "no: the order of the rows", "step"),
    Field(LABEL, "1 or 0: the session bought, in the end", "to train; ignored when scoring", "purchase"),
    Field(SPLIT, "train or val: val is for evaluation alone", "no: a part is held out", "split0"),
    Field(ENDED, "1 or 0: the session is known to have ended", "no: it has not ended, unless --first applies"),
    Field(VALUE, "money of the order, in currency; of sessions that bought", "no: with it the value of a purchase is predicted"),
    Field(CHURNED, "1 or 0: the customer has not come back since, empty where not known", "no: with it the risk of churn is predicted"),
    Field(CURRENCY, "ISO 4217: of orderValue, the same for all", "no"),
    Field(LEFT_OUT, "anything", "no: columns of sessions to leave out, such as those known only at the end", several=True),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_PUBLISHED = {field.name: field.published for field in FIELDS if field.published}
KNOWN_AT_END = ("n_clicks", "duration_s")  # columns of the published table that are known only when a session has ended
EVENTS, SESSIONS = "events", "sessions"
ATTRIBUTE = "is not a number: a column without a field is an attribute; encode it as numbers, or leave it out with --map leftOut={}"
EVENTLESS = "the session has no event"
UNKNOWN = 0  # the number of a page that is not in the model
SHOW = ("page_view", "product_view", "page", "")  # types of events that show a page
DONE = "event:"  # prefix of the type of an event that is a step
SHOWN = "page:"  # prefix of a page whose name begins with DONE
NO_STEP = "\0"  # the page of the row of a session without a step
NO_STEPS = frozenset((*KINDS[2:], "purchase"))  # types of events that are not steps: too frequent, or the target


@dataclass(frozen=True, slots=True)
class Journeys:
    """Sessions and their steps. ids: [sessions]; offsets int64 [sessions + 1]; pages: text, seconds: float32 [steps].

    ended: float32 [sessions]; attributes: float32 [sessions, names]; y: float32 [sessions] in {0, 1}, NaN where not known, None for none;
    val: bool [sessions], None where the table does not mark them. value, churned: float64 [sessions], NaN where not known, None for none.
    """

    ids: list[str]
    offsets: I64
    pages: list[str]
    seconds: F32
    ended: F32
    names: tuple[str, ...]
    attributes: F32
    y: F32 | None
    val: Bool | None
    value: F64 | None = None
    churned: F64 | None = None
    currency: str | None = None

    def of(self, sessions: Bool) -> "Journeys":
        """Return these sessions alone."""
        sizes = np.diff(self.offsets)
        kept = self._with_steps(np.repeat(sessions, sizes), sizes[sessions])
        own: dict[str, Any] = {name: getattr(self, name) for name in ("ended", "attributes", "y", "val", "value", "churned")}
        own = {name: None if column is None else column[sessions] for name, column in own.items()}
        return replace(kept, ids=[one for one, there in zip(self.ids, sessions, strict=True) if there], **own)

    def known(self, names: Collection[str]) -> "Journeys":
        """Return the sessions with the steps that are in a model with these names; see `is_step`."""
        return self._where([is_step(page, names) for page in self.pages])

    def but(self, name: str) -> "Journeys":
        """Return the sessions without the steps of this name."""
        return self._where([page != name for page in self.pages])

    def _where(self, steps: Sequence[bool]) -> "Journeys":
        there = np.array(steps, bool)
        which = np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))
        return self._with_steps(there, np.bincount(which[there], minlength=len(self.ids)))

    def _with_steps(self, there: Bool, sizes: I64) -> "Journeys":
        pages = [page for page, kept in zip(self.pages, there, strict=True) if kept]
        return replace(self, offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64), pages=pages, seconds=self.seconds[there])


class JourneysTable(TableKind):
    """A table of sessions' events, which a folder may hold in two files; an answer is for a session."""

    fields = FIELDS
    published_as = "clickstreams of Ozyurt et al. 2022"
    grain: Grain = "folder"

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the fields of numbers, or the columns mapped to them; attributes may be numbers too."""
        mapping = mapping or {}
        return frozenset(str(mapping.get(field, field)) for field in (SECONDS, STEP, LABEL, ENDED, VALUE, CHURNED)) | {"cum_time_s"}

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the events; see `resolve` for what it raises."""
        return ReadPlan(tuple(columns), self.number_columns(mapping), resolve(columns, mapping).ignored, whole=True, per_row=False)

    def joins(self, source: Path) -> bool:
        """Return whether `source` is a folder with events, or one file of them; requests are neither."""
        return bool(_named(source, EVENTS)) if source.is_dir() else source.name.endswith(frames.SUFFIXES)

    def join(self, source: Path, mapping: Mapped | None = None, **options: Any) -> pl.DataFrame:
        """Return one table of steps, as `join` of this module does."""
        return join(source, mapping, **options)


TABLE = JourneysTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> FieldColumns:
    """Return the column of each field: that in `mapping`, else the one with the field's name or its published name.

    Raises TableError when a mapped field or column does not exist, or one that is needed is not there.
    """
    mapping = mapping or {}
    check({field: (of,) if isinstance(of, str) else of for field, of in mapping.items()}, FIELD_NAMES, columns)
    of = {field: str(column) for field, column in mapping.items() if field != LEFT_OUT}
    for field in FIELD_NAMES:
        for name in (field, _PUBLISHED.get(field, field)):
            if field not in of and name in columns and name not in of.values():
                of[field] = name
    for field in (SESSION, PAGE_KIND, SECONDS):
        if field not in of:
            raise TableError(f"no column is the {field}; the table has {listed(columns)}. Name it with --map {field}=COLUMN")
    left = mapping.get(LEFT_OUT, ())
    out = {*((left,) if isinstance(left, str) else left), *KNOWN_AT_END}
    return FieldColumns(of, tuple(name for name in columns if name in out))


def step(kind: str, page: str | None) -> tuple[bool, str | None]:
    """Return whether an event of a type may be a step, and its name: the page, which may be unknown, or the type."""
    if kind not in SHOW:
        return kind not in NO_STEPS, DONE + kind
    return True, SHOWN + page if page is not None and page.startswith(DONE) else page


def is_step(name: str | None, names: Collection[str]) -> bool:
    """Return whether a name is a step of a model with these names: every page is, another event only if it is among them."""
    return name is None or name in names or not name.startswith(DONE)


def codes(names: Sequence[str]) -> dict[str, int]:
    """Return the numbers of a model's steps: their places, from 1 on."""
    return {name: place for place, name in enumerate(names, 1)}


def coded(pages: Sequence[str | None], codes: Mapping[str, int]) -> I64:
    """Return the numbers of steps int64 [steps], UNKNOWN for those without one."""
    return np.array([codes.get(page or "", UNKNOWN) for page in pages], np.int64)


def join(source: Path, mapping: Mapped | None = None, first: int | None = None) -> pl.DataFrame:
    """Return one table of steps, each with the columns of its session; of each session the first `first` steps.

    A session with fewer than `first` steps has ended after its last one, the others have not; without `first` sessionEnded holds.
    Raises TableError for a folder without events, or with sessions that do not fit.
    """
    frame = _steps(_renamed(_joined(source), mapping or {}))
    of = resolve(frame.columns).of
    if first is None:
        return frame
    size = pl.col(of[PAGE_KIND]).ne_missing(NO_STEP).sum().over(of[SESSION])
    order = [pl.col(of[name]).cast(pl.Float64, strict=False) for name in (SECONDS, STEP) if name in of]  # `read` raises for text
    place = "row of the table"
    known = frame.with_row_index(place).with_columns((size < first).cast(pl.Float64).alias(of.get(ENDED, ENDED)))
    early = known.sort(order, maintain_order=True).filter(pl.int_range(pl.len()).over(of[SESSION]) < first)
    return early.sort(place).drop(place)


def read(frame: Any) -> Journeys:
    """Return the sessions of a table that `join` returned, in order of their first lines. Raises CellError for a wrong cell."""
    table = nw.from_native(frame, eager_only=True)
    columns = resolve(table.columns)
    of = columns.of
    keys = table[of[SESSION]].cast(nw.String).to_numpy().astype(str)
    _, begins, which = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(begins), np.int64)
    rank[np.argsort(begins, kind="stable")] = np.arange(len(begins))
    session = rank[which]
    seconds = _numbers(table, of[SECONDS])
    step = _numbers(table, of[STEP]) if STEP in of else np.zeros(len(seconds))
    order = np.lexsort((step, seconds, session))
    firsts = np.sort(begins)
    offsets = np.concatenate((np.searchsorted(session[order], np.arange(len(firsts))), [len(order)])).astype(np.int64)
    names = tuple(name for name in table.columns if name not in of.values() and name not in columns.ignored)
    attributes = [_numbers(table, name, missing=True, fix=ATTRIBUTE)[firsts] for name in names]
    shown = np.array(["" if page is None else page for page in table[of[PAGE_KIND]].cast(nw.String).to_list()], dtype=object)
    found = Journeys(
        keys[firsts].tolist(),
        offsets,
        shown[order].tolist(),
        seconds[order].astype(np.float32),
        np.nan_to_num(_numbers(table, of[ENDED], missing=True)[firsts]).astype(np.float32)
        if ENDED in of
        else np.zeros(len(firsts), np.float32),
        names,
        np.array(attributes, np.float32).reshape(len(names), len(firsts)).T.copy(),
        _numbers(table, of[LABEL], missing=True)[firsts].astype(np.float32) if LABEL in of else None,
        table[of[SPLIT]].cast(nw.String).to_numpy()[firsts] == "val" if SPLIT in of else None,
        _numbers(table, of[VALUE], missing=True)[firsts] if VALUE in of else None,
        _numbers(table, of[CHURNED], missing=True)[firsts] if CHURNED in of else None,
        _one(table, of[CURRENCY]) if CURRENCY in of else None,
    )
    return found.but(NO_STEP)


def _named(folder: Path, name: str) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name.split(".")[0] == name and path.name.endswith(frames.SUFFIXES)]


def _renamed(frame: pl.DataFrame, mapping: Mapped) -> pl.DataFrame:
    """Return the frame with mapped columns under their field's name, and without those that are left out."""
    resolve(frame.columns, mapping)
    left = mapping.get(LEFT_OUT, ())
    named = {field: str(column) for field, column in mapping.items() if field != LEFT_OUT}
    replaced = [field for field, column in named.items() if field in frame.columns and field != column]
    kept = frame.drop([*replaced, *((left,) if isinstance(left, str) else left)])
    return kept.rename({column: field for field, column in named.items()})


def _steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the events that are steps, their names in the place of pages, and one line of each session that has none."""
    of = resolve([name for name in frame.columns if name != EVENTLESS]).of
    kind = pl.col(of[TYPE]).cast(pl.String).fill_null("") if TYPE in of else pl.lit("")
    empty = pl.col(EVENTLESS).fill_null(False) if EVENTLESS in frame.columns else pl.lit(False)
    page = pl.col(of[PAGE_KIND]).cast(pl.String)
    # Without a column of types a page may be a name that this function returned.
    shown = pl.when(page.str.starts_with(DONE)).then(SHOWN + page).otherwise(page) if TYPE in of else page
    done = pl.when(kind.is_in(SHOW)).then(shown).otherwise(DONE + kind)
    name = pl.when(empty | kind.is_in(sorted(NO_STEPS))).then(pl.lit(NO_STEP)).otherwise(done).alias(of[PAGE_KIND])
    zeros = (
        pl.when(empty).then(pl.lit(0).cast(frame.schema[of[one]])).otherwise(pl.col(of[one])).alias(of[one])
        for one in (SECONDS, STEP)
        if one in of
    )
    steps = frame.with_columns(name, *zeros).drop(of.get(TYPE, EVENTLESS), EVENTLESS, strict=False)
    none, first = pl.col(of[PAGE_KIND]).eq_missing(NO_STEP), pl.int_range(pl.len()).over(of[SESSION]) == 0
    return steps.filter(~none | (none.all().over(of[SESSION]) & first))


def _joined(source: Path) -> pl.DataFrame:
    if not source.is_dir():
        frame: pl.DataFrame = frames.read(source, numbers=())
        return frame
    tables = {name: _named(source, name) for name in (EVENTS, SESSIONS)}
    if not tables[EVENTS]:
        raise TableError(f"{source}: holds no events.csv, .csv.gz or .parquet; put the events of sessions there")
    events: pl.DataFrame = frames.read(tables[EVENTS][0])
    if not tables[SESSIONS]:
        return events
    sessions: pl.DataFrame = frames.read(tables[SESSIONS][0])
    if journeys.holds(events.columns, sessions.columns):
        return journeys.journeys(events, sessions)
    both = [name for name in events.columns if name in sessions.columns]
    if len(both) != 1:
        raise TableError(f"{source}: events and sessions have {listed(both) or 'no column'} in common; one column must name the session")
    key = pl.col(both[0]).cast(pl.String)
    events, sessions = events.with_columns(key), sessions.with_columns(key)
    if sessions[both[0]].is_duplicated().any():
        raise TableError(f"{tables[SESSIONS][0]}: a session is there twice; give each one row")
    # Sessions of only one of the files stay: those without attributes, and those without an event.
    without = sessions.join(events, on=both[0], how="anti", maintain_order="left").select(both[0], pl.lit(True).alias(EVENTLESS))
    together = pl.concat([events, without], how="diagonal") if without.height else events
    return together.join(sessions, on=both[0], how="left", maintain_order="left")


def _one(table: Any, column: str) -> str | None:
    """Return the one value of a column, None where all cells are blank. Raises CellError for a second value."""
    values = [None if value in (None, "") else str(value) for value in table[column].cast(nw.String).to_list()]
    first = next((value for value in values if value is not None), None)
    for row, value in enumerate(values):
        if value is not None and value != first:
            raise CellError(row, column, value, f"is another currency than {first} before; convert the amounts to one")
    return first


def _numbers(table: Any, column: str, *, missing: bool = False, fix: str = "is not a number: write one") -> F64:
    """Return a column as numbers, NaN where it may be missing and is. Raises CellError for text that is not a number."""
    values = table[column].to_list()
    out = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            out[row] = np.nan if missing and value in (None, "") else float(value)
        except (TypeError, ValueError):
            raise CellError(row, column, value, fix.format(column)) from None
    return out
