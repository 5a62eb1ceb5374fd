"""Lines in memory as an Arrow stream, so that DuckDB reads the columns where they are.

The Arrow C stream interface by hand (https://arrow.apache.org/docs/format/CStreamInterface.html): three structures and
some callbacks, which saves every user an installation of pyarrow. The arrays must outlive the stream, and do: each
structure handed out is kept, with what it points to, until the reader releases the stream. Not here: what is asked of
the columns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.model.logs import LEVELS, LogBatch, Text


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_FreeSchema, _FreeArray, _FreeStream = (CFUNCTYPE(None, POINTER(s)) for s in (_Schema, _Array, _Stream))
_GetSchema, _GetNext = (CFUNCTYPE(c_int, POINTER(_Stream), POINTER(s)) for s in (_Schema, _Array))
_GetError = CFUNCTYPE(c_void_p, POINTER(_Stream))
_Schema._fields_ = [
    ("format", c_char_p), ("name", c_char_p), ("metadata", c_char_p), ("flags", c_int64), ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))), ("dictionary", POINTER(_Schema)), ("release", _FreeSchema), ("private_data", c_void_p),
]  # fmt: skip
_Array._fields_ = [
    ("length", c_int64), ("null_count", c_int64), ("offset", c_int64), ("n_buffers", c_int64), ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)), ("children", POINTER(POINTER(_Array))), ("dictionary", POINTER(_Array)),
    ("release", _FreeArray), ("private_data", c_void_p),
]  # fmt: skip
_Stream._fields_ = [
    ("get_schema", _GetSchema), ("get_next", _GetNext), ("get_last_error", _GetError), ("release", _FreeStream), ("private_data", c_void_p),
]  # fmt: skip

# What is released here owns nothing: its memory belongs to `_Handed`, which the stream's release lets go.
_free_schema = _FreeSchema(lambda at: setattr(at.contents, "release", _FreeSchema()))
_free_array = _FreeArray(lambda at: setattr(at.contents, "release", _FreeArray()))
_no_error = _GetError(lambda at: None)

_NAME = b"arrow_array_stream"
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
_LEVELS = Text.of(LEVELS)


class Lines:
    """Batches as a table `time BIGINT, seq BIGINT, level, service, message, fields VARCHAR`; may be read any number of times."""

    def __init__(self, batches: Sequence[tuple[LogBatch, NDArray[np.int64]]]) -> None:
        """Each batch with the numbers of its lines, int64[n]."""
        self._batches = batches
        self._open: dict[int, _Handed] = {}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream in a capsule; the reader takes it over, and releases it."""
        handed = _Handed(self._batches, self._open)
        self._open[id(handed)] = handed
        return _new_capsule(ctypes.addressof(handed.stream), _NAME, None)


class _Handed:
    """One stream that is being read, and all that it points to."""

    def __init__(self, batches: Sequence[tuple[LogBatch, NDArray[np.int64]]], among: dict[int, _Handed]) -> None:
        self._left = iter(batches)
        self._kept: list[Any] = []
        self._among = among
        self.stream = _Stream(_GetSchema(self._schema), _GetNext(self._next), _no_error, _FreeStream(self._release), None)

    def _schema(self, stream: Any, out: Any) -> int:
        words = _schema(b"u", b"")
        columns = [
            _schema(b"l", b"time"),
            _schema(b"l", b"seq"),
            _schema(b"C", b"level", dictionary=words),
            _schema(b"i", b"service", dictionary=words),
            _schema(b"u", b"message"),
            _schema(b"u", b"fields"),
        ]
        self._give(_schema(b"+s", b"", columns), out)
        return 0

    def _next(self, stream: Any, out: Any) -> int:
        found = next(self._left, None)
        if found is None:
            ctypes.memset(out, 0, ctypes.sizeof(_Array))
            return 0
        batch, seqs = found
        n = len(batch)
        services = Text.of(batch.services)
        columns = [
            _array(n, [batch.times]),
            _array(n, [seqs]),
            _array(n, [batch.levels], dictionary=_text(_LEVELS)),
            _array(n, [batch.service_codes], dictionary=_text(services)),
            _text(batch.messages),
            _text(batch.fields),
        ]
        self._kept += [batch, seqs, services]
        self._give(_array(n, [], columns), out)
        return 0

    def _give(self, made: Any, out: Any) -> None:
        self._kept.append(made)
        ctypes.memmove(out, ctypes.byref(made), ctypes.sizeof(made))

    def _release(self, stream: Any) -> None:
        stream.contents.release = _FreeStream()
        self._among.pop(id(self), None)


def _schema(form: bytes, name: bytes, children: Sequence[_Schema] = (), *, dictionary: _Schema | None = None) -> _Schema:
    made = _Schema(format=form, name=name, n_children=len(children), release=_free_schema)
    if children:
        made.children = (POINTER(_Schema) * len(children))(*map(ctypes.pointer, children))
    if dictionary is not None:
        made.dictionary = ctypes.pointer(dictionary)
    return made


def _array(n: int, buffers: Sequence[NDArray[Any]], children: Sequence[_Array] = (), *, dictionary: _Array | None = None) -> _Array:
    """An array without missing values, so without the first of its buffers."""
    made = _Array(length=n, n_buffers=1 + len(buffers), n_children=len(children), release=_free_array)
    made.buffers = (c_void_p * (1 + len(buffers)))(None, *(b.ctypes.data for b in buffers))
    if children:
        made.children = (POINTER(_Array) * len(children))(*map(ctypes.pointer, children))
    if dictionary is not None:
        made.dictionary = ctypes.pointer(dictionary)
    return made


def _text(text: Text) -> _Array:
    return _array(len(text), [text.offsets, text.data])
