"""A response has the same content whether its headers are pairs or encoded, and over every way of sending it."""

from hypothesis import given
from hypothesis import strategies as st

from serving.ingress.http.response import Response, encode, encode_headers, respond, to_starlette
from tests.serving.wire import answers

PAIRS = st.dictionaries(
    st.from_regex(rb"[a-z][a-z-]{0,20}", fullmatch=True).filter(lambda name: name not in (b"content-length", b"connection")),
    st.from_regex(rb"([!-~]([ -~]{0,30}[!-~])?)?", fullmatch=True),
    max_size=5,
).map(lambda headers: list(headers.items()))


@given(PAIRS, st.binary(max_size=50), st.booleans())
async def test_header_pairs_and_encoded_headers_give_the_same_response_on_sockets_over_asgi_and_in_starlette(
    pairs: list[tuple[bytes, bytes]], body: bytes, close: bool
) -> None:
    expected = {**{name.decode(): value.decode() for name, value in pairs}, "content-length": str(len(body))}
    if close:
        expected["connection"] = "close"
    for headers in (pairs, encode_headers(pairs)):
        answer = Response(429, headers, body, close)
        assert answer.pairs == pairs
        assert answers(encode(answer, close)) == [(429, expected, body)]
        sent: list[dict[str, object]] = []

        async def send(message: object) -> None:
            sent.append(message)  # type: ignore[arg-type]  # noqa: B023

        await respond(answer, send)
        for raw in (sent[0]["headers"], to_starlette(answer).raw_headers):
            assert {name.decode(): value.decode() for name, value in raw} == expected  # type: ignore[attr-defined]
        assert (sent[0]["status"], sent[1]["body"]) == (429, body)


def test_a_response_can_close_the_connection() -> None:
    assert Response(200, b"", b"").closing() == Response(200, b"", b"", close=True)
