"""How a kernel comes out of Numba's cache: with its machine code alone.

Numba also sets up all that a compiler needs (every function it knows how to type and to lower: eleven megabytes and a fifth of a
second), keeps each kernel's LLVM module beside its machine code (a quarter of a megabyte each), in case another one is compiled
that calls it, and imports the modules of whatever of its own was compiled into one (seven megabytes). Here all that waits until
something is compiled. Not here: where the cache lies (`kernels/__init__.py`).
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from typing import IO, Any

import llvmlite.binding
import numba.core.codegen
import numba.core.dispatcher
import numba.core.environment
import numba.core.lowering
import numba.core.runtime.nrt
import numba.core.types

# Numba is not typed.
_library: Any = numba.core.codegen.CPUCodeLibrary
_unserialize: Any = _library._unserialize.__func__
_module_for_linking: Any = _library._get_module_for_linking
_environment: Any = numba.core.environment
_rebuild_env: Any = _environment._rebuild_env
_llvm: Any = llvmlite.binding
_SYMBOL_TABLE = 2
_runtime: Any = numba.core.runtime.nrt.rtsys
_dispatcher: Any = numba.core.dispatcher.Dispatcher
_call_template: Any = _dispatcher.get_call_template
_lower: Any = numba.core.lowering.BaseLower
_unliteral: Any = numba.core.types.unliteral


class Aside:
    """Bytes that are hardly ever wanted again, in a file of this process' own that nobody else sees, packed to a tenth.

    The cache has them, too, but may be emptied while this process runs. Where no file can be written they stay in memory.
    """

    def __init__(self, make: Callable[[], IO[bytes]] = tempfile.TemporaryFile) -> None:
        self._make = make
        self._file: IO[bytes] | None = None
        self._end = 0
        self._turn = threading.Lock()

    def put(self, content: bytes) -> Callable[[], bytes]:
        """Put it aside; answers what brings it back."""
        packed = zlib.compress(content, 1)
        with self._turn:
            try:
                if self._file is None:
                    self._file = self._make()
                file, at = self._file, self._end
                if os.pwrite(file.fileno(), packed, at) != len(packed):
                    return lambda: zlib.decompress(packed)
            except OSError:
                return lambda: zlib.decompress(packed)
            self._end += len(packed)
        length = len(packed)
        return lambda: zlib.decompress(os.pread(file.fileno(), length, at))


_aside = Aside()


def load_overload(cache: Any, signature: Any, target_context: Any) -> Any:
    """`Cache.load_overload` without making the compiler ready, which compiling does itself. None where nothing is kept.

    Without the listing of its source with types either, for `inspect_types` to print: thirty kilobytes a kernel.
    """
    # What compiled code calls to allocate arrays; done once.
    _runtime.initialize(target_context)
    with cache._guard_against_spurious_io_errors():
        kernel = cache._load_overload(signature, target_context)
        return None if kernel is None else kernel._replace(type_annotation="")


def unserialize(cls: Any, codegen: Any, state: Any) -> Any:
    """`CPUCodeLibrary._unserialize` without making a module of the bitcode, which is put aside.

    Numba makes one to know which names the object defines; the object says so, too. Of one that is no ELF object it is made, and let go.
    """
    name, kind, data = state
    symbols = elf_symbols(data[0]) if kind == "object" else None
    if symbols is None:
        library = _unserialize(cls, codegen, state)
        if kind == "object":
            library._shared_module.close()
            library._shared_module = None
            library._bitcode = _aside.put(data[1])
        return library
    library = codegen.create_library(name)
    library.enable_object_caching()
    library._set_compiled_object(data[0])
    library._finalize_final_module()
    codegen._engine._defined_symbols |= symbols
    library._bitcode = _aside.put(data[1])
    return library


def elf_symbols(code: bytes) -> set[str] | None:
    """The names that a 64-bit little-endian ELF object defines; None where it is none, as on other systems."""
    if code[:6] != b"\x7fELF\x02\x01":
        return None
    (at,), (size, count) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<HH", code, 58)
    # Of each section its type, where it is, how long, and which other one it is about.
    sections = [struct.unpack_from("<4xI16xQQI", code, at + i * size) for i in range(count)]
    found = set()
    for kind, place, length, names in sections:
        if kind == _SYMBOL_TABLE:
            texts = sections[names][1]
            for name, section in struct.iter_unpack("<I2xH16x", code[place : place + length]):
                if name and section:
                    found.add(code[texts + name : code.index(b"\0", texts + name)].decode())
    return found


def module_for_linking(library: Any) -> Any:
    """`CPUCodeLibrary._get_module_for_linking`, of a library from the cache too: a module for whoever links it in now."""
    bitcode = getattr(library, "_bitcode", None)
    return _module_for_linking(library) if bitcode is None else _llvm.parse_bitcode(bitcode())


@functools.wraps(_rebuild_env)  # with its name: a kernel's environment is kept as a call of it
def rebuild_env(modname: str, consts: Any, env_name: str) -> Any:
    """`_rebuild_env`, importing none of Numba's own modules: its functions use of an environment the constants alone.

    A module's names are for Python code inside a compiled function (`objmode`), of which Numba's have none.
    """
    if modname in sys.modules or not modname.startswith("numba."):
        return _rebuild_env(modname, consts, env_name)
    if (known := _environment.lookup_environment(env_name)) is not None:
        return known
    made = _environment.Environment({"__name__": modname})  # what it is kept under when a kernel is compiled that calls this one
    made.consts[:] = consts
    made.env_name = env_name
    _environment.Environment._memo[env_name] = made
    return made


def call_template(kernel: Any, args: Any, keywords: Any) -> Any:
    """`Dispatcher.get_call_template`, for a kernel's own functions: one compiled for any number serves where 0 is given, too.

    Numba compiles another one for each constant, a sixth of all there is to compile; of what is inlined LLVM makes as much of the constant.
    """
    if kernel.py_func.__module__.startswith("vedette."):
        args, keywords = tuple(map(_unliteral, args)), {name: _unliteral(kind) for name, kind in keywords.items()}
    return _call_template(kernel, args, keywords)


def lightly() -> None:
    """Keep no modules of kernels that are loaded from now on, and import none for them; compile of them what is called, and once."""
    _environment._rebuild_env = rebuild_env
    _library._unserialize = classmethod(unserialize)
    _library._get_module_for_linking = module_for_linking
    _dispatcher.get_call_template = call_template
    # For function pointers, which kernels are never handed as.
    _lower.create_cfunc_wrapper = lambda self: None
