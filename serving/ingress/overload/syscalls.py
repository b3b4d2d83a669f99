"""What compiled code calls of the C library, and the numbers of Linux that go with it.

Symbols, unlike pointers of ctypes, leave the compiled code fit for the cache on disk.
"""

import platform
from typing import Any

from numba import types

DONT_WAIT, NO_SIGNAL = 0x40, 0x4000  # MSG_DONTWAIT, MSG_NOSIGNAL
# struct epoll_event is packed on x86-64 alone; where its descriptor is.
EVENT_BYTES, SOCKET_AT = (12, 4) if platform.machine() == "x86_64" else (16, 8)

_bytes, _uints = types.CPointer(types.uint8), types.CPointer(types.uint32)

recv: Any = types.ExternalFunction("recv", types.intp(types.int32, _bytes, types.uintp, types.int32))
send: Any = types.ExternalFunction("send", types.intp(types.int32, _bytes, types.uintp, types.int32))
epoll_wait: Any = types.ExternalFunction("epoll_wait", types.int32(types.int32, _bytes, types.int32, types.int32))
getsockopt: Any = types.ExternalFunction("getsockopt", types.int32(types.int32, types.int32, types.int32, _bytes, _uints))
