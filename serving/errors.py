"""The error tree: codes and data of what can go wrong. The HTTP status of each is defined in serving.ingress.problems only."""


class RevenueEngineError(Exception):
    """Base of every error that this project raises on purpose; the message has what happened, the value and what to do."""

    code = "internal"


class FieldProblem:
    """One wrong field of a request: its path (`behaviorData.pageViews`, `interactions[3].type`) and why it is wrong."""

    __slots__ = ("detail", "field")

    def __init__(self, field: str, detail: str) -> None:
        self.field = field
        self.detail = detail

    def __repr__(self) -> str:
        return f"FieldProblem({self.field!r}, {self.detail!r})"


class NotJSONError(RevenueEngineError):
    """The body is not JSON: bad syntax, bad UTF-8, NaN, or nested too deeply."""

    code = "not-json"


class InvalidRequestError(RevenueEngineError):
    """The body is JSON, but has wrong fields; `problems` has one entry for each, except for `more` that are not listed."""

    code = "invalid-request"

    def __init__(self, problems: list[FieldProblem], more: int = 0) -> None:
        self.problems, self.more = problems, more
        super().__init__("; ".join(f"{p.field}: {p.detail}" for p in problems))


class TooLargeError(RevenueEngineError):
    """The body, a list or the interactions of a session exceed their limit."""

    code = "too-large"

    def __init__(self, detail: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(detail)


class MalformedRequestError(RevenueEngineError):
    """The bytes on the connection are not HTTP."""

    code = "malformed-request"


class HeadTooLargeError(RevenueEngineError):
    """The request line and headers exceed their limit."""

    code = "head-too-large"


class UnsupportedMediaTypeError(RevenueEngineError):
    """The content type is not application/json."""

    code = "unsupported-media-type"


class ForbiddenError(RevenueEngineError):
    """The principal of the request lacks the scope that this path requires."""

    code = "forbidden"


class NotFoundError(RevenueEngineError):
    """There is nothing at this path."""

    code = "not-found"


class MethodNotAllowedError(RevenueEngineError):
    """The path exists, but not with this method; `allow` lists the methods it has."""

    code = "method-not-allowed"

    def __init__(self, detail: str, allow: str) -> None:
        self.allow = allow
        super().__init__(detail)


class SlowRequestError(RevenueEngineError):
    """The body did not arrive in time."""

    code = "slow-request"


class OverloadedError(RevenueEngineError):
    """The queue is full; it will have room after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class DeadlineExceededError(RevenueEngineError):
    """The caller's deadline passed before the answer was ready."""

    code = "deadline-exceeded"


class NoModelError(RevenueEngineError):
    """The question has no model, and gets none until somebody provides one: the message has the command. Waiting does not help."""

    code = "no-model"
    retry_after_s = None

    def __init__(self, task: str, alias: str, problem: str | None = None) -> None:
        because = "" if problem is None else f": {problem}"
        super().__init__(
            f"{task} has no model{because}; train one with `revenue-engine train {task} --data PATH --out DIR`, then "
            f"`revenue-engine models add DIR --alias {alias}`; a running server takes it up"
        )


class NotReadyError(RevenueEngineError):
    """The server is starting or draining, or is loading a model."""

    code = "not-ready"


class StoreUnavailableError(NotReadyError):
    """A store that an answer depends on did not respond in time."""


class SettingsError(RevenueEngineError):
    """A setting is missing, misspelt or out of range."""

    code = "settings"


class LoaderError(RevenueEngineError):
    """The process that loads a model for a trial has died, or was not done in time; no replica loads that model."""

    code = "loader"


class OutputError(RevenueEngineError):
    """The output of a batch job cannot be written."""

    code = "output"


class RayError(RevenueEngineError):
    """Ray could not be started, or failed during a batch job."""

    code = "ray"
