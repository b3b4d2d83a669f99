"""Read sessions with their events as columns.

A folder with `events` and `sessions` (.csv, .csv.gz or .parquet each), or one file of events; a simulated shop is such a folder. Columns
of sessions without a field are their attributes: numbers, known when a session begins.

The steps of a session are the pages that are shown, and other events that have a `type` in the table.
"""

import dataclasses
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
from training.tables import cells, frames
from training.tables.cells import DEFAULT, CellOptions
from training.tables.cells.times import MIN_EPOCH_S
from training.tables.table import Field, FieldColumns, Grain, Mapped, ReadPlan, TableKind, check, listed

SESSION, PAGE_KIND, TYPE, SECONDS, STEP, LABEL, SPLIT, ENDED, LEFT_OUT = (
    *("sessionId", "pageKind", "type", "seconds", "step", "purchase", "split", "sessionEnded", "leftOut"),
)
VALUE, CHURNED, CURRENCY = "orderValue", "churned", "currency"
FIELDS: tuple[Field, ...] = (
    Field(SESSION, "text or number, in both files", "yes", "session_id"),
    Field(PAGE_KIND, "text or number: the kind of page, or the name of a step", "yes", "page"),
    Field(TYPE, "page_view, or another event such as add_to_cart", "no: every row is a page view"),
    Field(SECONDS, "seconds since the session began, or a time: ISO 8601, or seconds since 1970", "yes", "cum_time_s"),
    Field(STEP, "number: the order of events of the same second", "no: the order of the rows", "step"),
    Field(LABEL, "1 or 0: the session bought, in the end", "yes", "purchase", scoring="ignored"),
    Field(SPLIT, "train or val: val is for evaluation alone", "no: a part is held out", "split0", scoring="ignored"),
    Field(
        ENDED, "1 or 0: the session is known to have ended", "no: it has not ended", scoring="no: it has not ended, unless --first applies"
    ),
    Field(
        VALUE,
        "money of the order, in currency; of sessions that bought",
        "no: with it the value of a purchase is predicted",
        scoring="ignored",
    ),
    Field(
        CHURNED,
        "1 or 0: the customer has not come back since, empty where not known",
        "no: with it the risk of churn is predicted",
        scoring="ignored",
    ),
    Field(CURRENCY, "ISO 4217: of orderValue, the same for all", "no", scoring="ignored"),
    Field(LEFT_OUT, "anything", "no: columns of sessions to leave out, such as those known only at the end", several=True),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_PUBLISHED = {field.name: field.published for field in FIELDS if field.published}
KNOWN_AT_END = ("n_clicks", "duration_s")  # columns of the published table that are known only when a session has ended
EVENTS, SESSIONS = "events", "sessions"
_TEXTS = (SESSION, PAGE_KIND, TYPE, SPLIT, CURRENCY)
NOT_A_NUMBER = "is not a number: write one"
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
    left_out: numbers of rows that are left out, by reason; warnings: about them, with their place.
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
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

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
    keys = (SESSION, PAGE_KIND)
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

    def join(self, source: Path, mapping: Mapped | None = None, cells: CellOptions = DEFAULT, **options: Any) -> pl.DataFrame:
        """Return one table of steps, as `join` of this module does."""
        return join(source, mapping, options=cells, **options)


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


def join(
    source: Path,
    mapping: Mapped | None = None,
    first: int | None = None,
    *,
    options: CellOptions = DEFAULT,
) -> pl.DataFrame:
    """Return one table of steps, each with the columns of its session; of each session the first `first` steps.

    Sessions and pages are text, null where one is blank, and times are seconds since the first of the session. A session with fewer than
    `first` steps has ended after its last one, the others have not; without `first` sessionEnded holds. Raises TableError for a folder
    without events, or with sessions that do not fit, CellError for a wrong time.
    """
    frame = _renamed(_joined(source, options), mapping or {})
    try:
        frame = _with_cells(frame, options)
    except CellError as error:
        raise _placed(error, source, frame, mapping or {}, options) from None
    frame = _steps(frame)
    of = resolve(frame.columns).of
    if first is None:
        return frame
    nobody = pl.col(of[SESSION]).is_null()
    size = pl.col(of[PAGE_KIND]).ne_missing(NO_STEP).sum().over(of[SESSION])
    order = [pl.col(of[name]).cast(pl.Float64, strict=False) for name in (SECONDS, STEP) if name in of]  # `read` raises for text
    place = "row of the table"
    known = frame.with_row_index(place).with_columns((size < first).cast(pl.Float64).alias(of.get(ENDED, ENDED)))
    early = known.sort(order, maintain_order=True).filter(nobody | (pl.int_range(pl.len()).over(of[SESSION]) < first))
    return early.sort(place).drop(place)


def read(frame: Any, *, options: CellOptions = DEFAULT) -> Journeys:
    """Return the sessions of a table that `join` returned, in order of their first lines.

    Rows without a session are left out and counted. Raises CellError for a wrong cell, TableError for numbers or times in two forms.
    """
    table = nw.from_native(frame, eager_only=True)
    columns = resolve(table.columns)
    of = columns.of
    ids = cells.ids(table[of[SESSION]], options)
    there = ids.is_not_null().to_numpy()
    reader = _Numbers(table, options, there)
    begins, which = _sessions(ids.filter(ids.is_not_null()))
    seconds = _elapsed(cells.as_polars(table[of[SECONDS]]).alias(of[SECONDS]), ids, options)
    reader.require(seconds, of[SECONDS])
    seconds = seconds[there]
    step = reader.known(of[STEP]) if STEP in of else np.zeros(len(seconds))
    order = np.lexsort((step, seconds, which))
    offsets = np.concatenate((np.searchsorted(which[order], np.arange(len(begins))), [len(order)])).astype(np.int64)
    names = tuple(name for name in table.columns if name not in of.values() and name not in columns.ignored)
    attributes = [reader.optional(name, ATTRIBUTE)[begins] for name in names]
    shown = cells.ids(table[of[PAGE_KIND]], options).fill_null("").filter(ids.is_not_null()).to_numpy()
    split = cells.texts(table[of[SPLIT]]).filter(ids.is_not_null()).to_numpy() if SPLIT in of else None
    found = Journeys(
        ids.filter(ids.is_not_null()).gather(begins).to_list(),
        offsets,
        shown[order].tolist(),
        seconds[order].astype(np.float32),
        np.nan_to_num(reader.optional(of[ENDED])[begins]).astype(np.float32) if ENDED in of else np.zeros(len(begins), np.float32),
        names,
        np.array(attributes, np.float32).reshape(len(names), len(begins)).T.copy(),
        reader.optional(of[LABEL])[begins].astype(np.float32) if LABEL in of else None,
        None if split is None else split[begins] == "val",
        reader.optional(of[VALUE])[begins] if VALUE in of else None,
        reader.optional(of[CHURNED])[begins] if CHURNED in of else None,
        _one(table, of[CURRENCY], options) if CURRENCY in of else None,
        {"without a session": int((~there).sum())} if not there.all() else {},
        tuple(cells.without("session", table[of[SESSION]], ids, options, rows=False)),
    )
    return found.but(NO_STEP)


def _sessions(ids: pl.Series) -> tuple[I64, I64]:
    """Return the first row of each session, in order, and which of these sessions each row is of."""
    names = ids.unique(maintain_order=True)
    which = ids.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    _, begins = np.unique(which, return_index=True)
    return begins.astype(np.int64), which


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The columns of numbers of a table. there: bool [rows], which rows are of a session; what is returned has these rows alone."""

    table: nw.DataFrame[Any]
    options: CellOptions
    there: Bool

    def optional(self, column: str, fix: str = NOT_A_NUMBER) -> F64:
        """Return a column, NaN where a cell is blank. Raises CellError for text that is not a number."""
        return cells.floats(self.table[column], self.options, fix=fix.format(column))[self.there]

    def known(self, column: str) -> F64:
        """Return a column. Raises CellError for a cell that is blank too."""
        values = cells.floats(self.table[column], self.options, fix=NOT_A_NUMBER)
        self.require(values, column)
        return values[self.there]

    def require(self, values: F64, column: str) -> None:
        """Raise CellError for the first row of a session without a number; values: [all rows]."""
        blank = np.flatnonzero(np.isnan(values) & self.there)
        if len(blank):
            raise CellError(int(blank[0]), column, self.table[column][int(blank[0])], NOT_A_NUMBER)


def _with_cells(frame: pl.DataFrame, options: CellOptions) -> pl.DataFrame:
    """Return the table with its cells read: no word is blank any more.

    Sessions and pages are text, times seconds since the first of the session; other fields but texts, and attributes, are numbers.
    """
    columns = resolve([name for name in frame.columns if name != EVENTLESS])
    of = columns.of
    ids, pages = (cells.ids(frame[of[name]], options) for name in (SESSION, PAGE_KIND))
    seconds = pl.Series(of[SECONDS], _elapsed(frame[of[SECONDS]], ids, options), pl.Float64)
    texts = {*(of[name] for name in _TEXTS if name in of), *columns.ignored, EVENTLESS, of[SECONDS]}
    numbers = [
        cells.numbers(frame[name], options, fix=NOT_A_NUMBER if name in of.values() else ATTRIBUTE.format(name))
        for name in frame.columns
        if name not in texts
    ]
    others = [cells.ids(frame[of[CURRENCY]], options)] if CURRENCY in of else []
    return frame.with_columns(ids, pages, seconds.fill_nan(None), *numbers, *others)


def _elapsed(series: pl.Series, ids: pl.Series, options: CellOptions) -> F64:
    """Return a column of seconds, float64 [rows], NaN where a cell is blank.

    Times, and numbers that are times since 1970, become seconds since the first time of their session: float32, in which seconds are kept,
    has the seconds of no such number.
    """
    if isinstance(series.dtype, pl.Duration):
        return (series.dt.total_microseconds().cast(pl.Float64) / 1e6).fill_null(np.nan).to_numpy()
    if options.time_format is None and _holds_numbers(series, options):
        seconds = cells.numbers(series, options, fix=NOT_A_NUMBER)
        if (seconds.abs().max() or 0.0) < MIN_EPOCH_S:  # type: ignore[operator]
            return np.asarray(seconds.fill_null(np.nan).to_numpy(), np.float64)
        series = seconds
    found = cells.times(series, options)
    moments = pl.DataFrame({"id": ids, "at": np.where(found.known, found.seconds, np.nan)}).with_columns(pl.col("at").fill_nan(None))
    since = moments.select((pl.col("at") - pl.col("at").min().over("id")).fill_null(np.nan)).to_series()
    return np.asarray(since.to_numpy(), np.float64)


def _holds_numbers(series: pl.Series, options: CellOptions) -> bool:
    """Return whether a column is of numbers, by its first cell that is not blank; true of one without any."""
    if series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        return True
    if series.dtype == pl.Date or isinstance(series.dtype, pl.Datetime):
        return False
    head = cells.distinct_texts(series.drop_nulls().head(100), options).head(1)
    return cells.is_number(head[0]) if len(head) else True


def _placed(error: CellError, source: Path, frame: pl.DataFrame, mapping: Mapped, options: CellOptions) -> CellError:
    """Return the error with the file and line of its cell, and the name of its column there.

    A row of `frame` is one of the events, with the columns of its session, and after the events a session without any.
    """
    column = str(mapping.get(error.column, error.column))
    named = CellError(error.row, column, error.value, error.fix)
    if not source.is_dir():
        return named.at(frames.place(source, error.row))
    events, sessions = _named(source, EVENTS)[0], _named(source, SESSIONS)
    read = frames.read(events)
    if column in read.columns and error.row < read.height:
        return named.at(frames.place(events, error.row))
    key = next(name for name in read.columns if name in (table := frames.read(sessions[0])).columns)
    session = frame[resolve(frame.columns).of[SESSION]][error.row]
    row = (cells.ids(table[key], options) == session).fill_null(False).arg_max()
    return named.at(frames.place(sessions[0], int(row or 0)))


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
    """Return the events that are steps, their names in the place of pages, and one line of each session that has none.

    Rows without a session are all returned, for `read` to count.
    """
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
    return steps.filter(pl.col(of[SESSION]).is_null() | ~none | (none.all().over(of[SESSION]) & first))


def _joined(source: Path, options: CellOptions) -> pl.DataFrame:
    if not source.is_dir():
        frame: pl.DataFrame = frames.read(source)
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
    name = both[0]
    events, sessions = (frame.with_columns(cells.ids(frame[name], options)) for frame in (events, sessions))
    again = sessions[name].is_duplicated() & sessions[name].is_not_null()
    if again.any():
        raise TableError(f"{tables[SESSIONS][0]}: session {sessions[name].filter(again)[0]!r} is there twice; give each one row")
    # Sessions of only one of the files stay: those without attributes, and those without an event.
    without = sessions.join(events, on=name, how="anti", maintain_order="left").select(name, pl.lit(True).alias(EVENTLESS))
    together = pl.concat([events, without], how="diagonal") if without.height else events
    return together.join(sessions.filter(pl.col(name).is_not_null()), on=name, how="left", maintain_order="left")


def _one(table: Any, column: str, options: CellOptions) -> str | None:
    """Return the one value of a column, None where all cells are blank. Raises CellError for a second value."""
    values = cells.ids(table[column], options)
    first = values.drop_nulls().head(1)
    other = (values != first[0]).fill_null(False) if len(first) else pl.Series([False])
    if other.any():
        row = int(other.arg_true()[0])
        raise CellError(row, column, values[row], f"is another currency than {first[0]} before; convert the amounts to one")
    return first[0] if len(first) else None
