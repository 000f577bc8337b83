"""Rust values of the hypervisor, as gdb has them. All memory is read at physical addresses: EL2 maps itself one to one,
and what a CPU happens to translate by, a guest's tables or none, does not matter then."""

import contextlib
import struct

import gdb


@contextlib.contextmanager
def physical():
    """QEMU's stub reads physical memory while this is in force."""
    gdb.execute("maintenance packet Qqemu.PhyMemMode:1", to_string=True)
    gdb.execute("maintenance flush dcache", to_string=True)
    try:
        yield
    finally:
        gdb.execute("maintenance packet Qqemu.PhyMemMode:0", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)


def word(address):
    """The 64-bit word at an address."""
    raw = gdb.selected_inferior().read_memory(address, 8)
    return struct.unpack("<Q", bytes(raw))[0]


def static(name):
    """A static of the hypervisor, by its path."""
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError(f"no symbol {name}: these commands want the debug build (just debug)")
    return symbol.value()


def inner(value):
    """What is inside of wrappers that hold one thing: atomics, cells, numbers with a type of their own."""
    while value.type.strip_typedefs().code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        fields = [field for field in value.type.fields() if field.type.sizeof > 0]
        if len(fields) != 1:
            break
        value = value[fields[0]]
    return value


def number(value):
    """The number inside of wrappers."""
    return int(inner(value))


def inside(value, prefix):
    """The first thing at any depth whose type's name begins like this."""
    if str(value.type).startswith(prefix):
        return value
    if value.type.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        for field in value.type.fields():
            if field.type.sizeof > 0:
                found = inside(value[field], prefix)
                if found is not None:
                    return found
    return None


def items(vector):
    """The items of a Vec."""
    length = int(vector["len"])
    start = word(int(find(vector["buf"], "pointer").address))
    kind = vector.type.template_argument(0)
    for index in range(length):
        yield at(start + index * kind.sizeof, kind)


def boxed(value):
    """The items of a boxed slice."""
    start, length = int(value["data_ptr"]), int(value["length"])
    kind = value["data_ptr"].type.target()
    for index in range(length):
        yield at(start + index * kind.sizeof, kind)


def variant(value):
    """The name of an enum's variant, and what it carries."""
    return str(value).rsplit("::", 1)[-1]


def find(value, name):
    """A member by name, at any depth."""
    for field in value.type.fields():
        if field.name == name:
            return value[field]
    for field in value.type.fields():
        if field.type.code == gdb.TYPE_CODE_STRUCT and field.type.sizeof > 0:
            found = find(value[field], name)
            if found is not None:
                return found
    return None


def at(address, kind):
    """The value of a type at an address."""
    return gdb.Value(address).cast(kind.pointer()).dereference()


def text(string):
    """A String."""
    vector = string["vec"]
    length = int(vector["len"])
    start = word(int(find(vector["buf"], "pointer").address))
    return bytes(gdb.selected_inferior().read_memory(start, length)).decode() if length else ""
