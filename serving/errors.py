"""The error tree: what can go wrong, as codes and data. Only ingress knows which HTTP status each one means."""


class RevenueEngineError(Exception):
    """Base of everything this project raises on purpose; the message names the thing, the value and the fix."""

    code = "internal"


class FieldProblem:
    """One wrong field of a request: its path (`behaviorData.pageViews`, `interactions[3].type`) and what is wrong with it."""

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
    """The body is JSON, but fields of it are wrong; `problems` names every one."""

    code = "invalid-request"

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.field}: {p.detail}" for p in problems))


class TooLargeError(RevenueEngineError):
    """The body, the list or the interactions exceed their bound."""

    code = "too-large"

    def __init__(self, detail: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(detail)


class MalformedRequestError(RevenueEngineError):
    """The bytes on the connection are not HTTP."""

    code = "malformed-request"


class HeadTooLargeError(RevenueEngineError):
    """The request line and headers exceed their bound."""

    code = "head-too-large"


class UnsupportedMediaTypeError(RevenueEngineError):
    """The content type is not application/json."""

    code = "unsupported-media-type"


class NotFoundError(RevenueEngineError):
    """There is nothing at this path."""

    code = "not-found"


class MethodNotAllowedError(RevenueEngineError):
    """The path exists, but not with this method; `allow` lists those it has."""

    code = "method-not-allowed"

    def __init__(self, detail: str, allow: str) -> None:
        self.allow = allow
        super().__init__(detail)


class SlowRequestError(RevenueEngineError):
    """The body did not arrive in time."""

    code = "slow-request"


class OverloadedError(RevenueEngineError):
    """The queue is full; `retry_after_s` says when there will be room."""

    code = "overloaded"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class DeadlineExceededError(RevenueEngineError):
    """The caller's deadline passed before the answer was ready."""

    code = "deadline-exceeded"


class NotReadyError(RevenueEngineError):
    """The server is starting or draining."""

    code = "not-ready"


class StoreUnavailableError(NotReadyError):
    """A store that an answer needs does not answer in time."""


class SettingsError(RevenueEngineError):
    """A setting is missing, misspelt or out of range."""

    code = "settings"


class OutputError(RevenueEngineError):
    """A batch's output cannot be written where it should be."""

    code = "output"


class RayError(RevenueEngineError):
    """Ray could not be started, or failed under a batch job."""

    code = "ray"
