"""Frames as bytes, to send them between processes."""

import io

import polars as pl


def packed(frame: pl.DataFrame) -> bytes:
    """Return a frame as an Arrow IPC stream."""
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def unpacked(content: bytes) -> pl.DataFrame:
    """Return the frame in an Arrow IPC stream."""
    return pl.read_ipc_stream(io.BytesIO(content))
