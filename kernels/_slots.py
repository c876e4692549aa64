"""Jump slots of a loaded shared library: find them in its ELF file, read and rewrite them.

A lazily bound call goes through a pointer in the library's own memory (its jump slot), so writing
another function's address there redirects that library's calls and nobody else's. 64-bit
little-endian Linux only. Layout: System V ABI, "Dynamic Linking"; relocation types of the x86-64
psABI (GLOB_DAT 6, JUMP_SLOT 7) and of AArch64 ELF (1025, 1026).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SLOT_TYPES = {62: (6, 7), 183: (1025, 1026)}  # e_machine -> (GLOB_DAT, JUMP_SLOT)
_LOAD, _DYNAMIC = 1, 2  # program header types
_NEEDED, _RELA_PLT_SIZE, _STRINGS, _SYMBOLS, _RELA, _RELA_SIZE, _RELA_PLT = 1, 2, 5, 6, 7, 8, 23


@dataclass(frozen=True)
class Region:
    """One line of /proc/self/maps."""

    start: int
    stop: int
    writable: bool
    offset: int
    path: str


@dataclass(frozen=True)
class Library:
    """A loaded library: `slots` maps symbol names to the addresses of their jump slots."""

    path: str
    needed: tuple[str, ...]
    slots: Mapping[str, int]


def _mappings() -> list[Region]:
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, stop = (int(part, 16) for part in fields[0].split("-"))
        path = fields[5] if len(fields) == 6 else ""
        found.append(Region(start, stop, "w" in fields[1], int(fields[2], 16), path))
    return found


def loaded(name: str) -> Library:
    """The library called `name` (file name) in this process; ValueError if it cannot be read."""
    first = next(
        (m for m in _mappings() if os.path.basename(m.path) == name and m.offset == 0), None
    )
    if first is None:
        raise ValueError(f"{name} is not loaded")
    image = Path(first.path).read_bytes()
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{name} is not a 64-bit little-endian ELF file")
    machine = struct.unpack_from("<H", image, 18)[0]
    if machine not in _SLOT_TYPES:
        raise ValueError(f"{name}: no jump-slot layout known for ELF machine {machine}")

    header_offset = struct.unpack_from("<Q", image, 32)[0]
    header_size, header_count = struct.unpack_from("<HH", image, 54)
    segments: list[tuple[int, int, int]] = []  # (virtual address, file offset, file size)
    dynamic: dict[int, list[int]] = {}
    for index in range(header_count):
        kind, _, offset, address, _, size, _, _ = struct.unpack_from(
            "<IIQQQQQQ", image, header_offset + index * header_size
        )
        if kind == _LOAD:
            segments.append((address, offset, size))
        elif kind == _DYNAMIC:
            for entry in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<QQ", image, entry)
                if tag == 0:
                    break
                dynamic.setdefault(tag, []).append(value)

    def file_offset(address: int) -> int:
        for start, offset, size in segments:
            if start <= address < start + size:
                return address - start + offset
        raise ValueError(f"{name}: address {address:#x} is in no segment")

    if not segments or _STRINGS not in dynamic or _SYMBOLS not in dynamic:
        raise ValueError(f"{name} has no dynamic section")
    strings, symbols = file_offset(dynamic[_STRINGS][0]), file_offset(dynamic[_SYMBOLS][0])

    def string(offset: int) -> str:
        return image[strings + offset : image.index(b"\0", strings + offset)].decode()

    base = first.start - segments[0][0]
    slots: dict[str, int] = {}
    for table, length in ((_RELA_PLT, _RELA_PLT_SIZE), (_RELA, _RELA_SIZE)):
        if table not in dynamic:
            continue
        begin = file_offset(dynamic[table][0])
        for entry in range(begin, begin + dynamic[length][0], 24):
            address, info = struct.unpack_from("<QQ", image, entry)
            if info & 0xFFFFFFFF in _SLOT_TYPES[machine]:
                name_offset = struct.unpack_from("<I", image, symbols + (info >> 32) * 24)[0]
                slots[string(name_offset)] = base + address
    needed = tuple(string(offset) for offset in dynamic.get(_NEEDED, []))
    return Library(first.path, needed, slots)


def read(addresses: Mapping[str, int]) -> dict[str, int]:
    """The pointers that now stand in the slots."""
    return {
        symbol: ctypes.c_uint64.from_address(address).value for symbol, address in addresses.items()
    }


def write(addresses: Mapping[str, int], pointers: Mapping[str, int]) -> None:
    """Put `pointers` into their slots; read-only pages are opened for the write and closed again.

    All or nothing as far as can be known beforehand: no slot is written unless every page is
    mapped and could be made writable.
    """
    pages = {addresses[symbol] & -mmap.PAGESIZE for symbol in pointers}
    mappings = _mappings()
    closed = []
    for page in pages:
        mapping = next((m for m in mappings if m.start <= page < m.stop), None)
        if mapping is None:
            raise ValueError(f"page {page:#x} of the jump slots is not mapped")
        if not mapping.writable:
            closed.append(page)
    for page in closed:
        _protect(page, mmap.PROT_READ | mmap.PROT_WRITE)
    for symbol, pointer in pointers.items():
        ctypes.c_uint64.from_address(addresses[symbol]).value = pointer  # aligned, hence atomic
    for page in closed:
        _protect(page, mmap.PROT_READ)


def _protect(page: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), protection)
    if result != 0:
        raise ValueError(f"mprotect: {os.strerror(ctypes.get_errno())}")
