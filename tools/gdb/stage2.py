"""A walk of a guest's second stage, as the hardware does it (Arm DDI 0487, D8.2): 4 KiB granule, what VTCR_EL2 says."""

import values

ADDRESS = 0x0000_FFFF_FFFF_F000


def attributes(descriptor, level):
    """The attributes of a block or page, in words."""
    access = ["none", "r-", "-w", "rw"][descriptor >> 6 & 3]
    execute = "-" if descriptor >> 54 & 1 else "x"
    memory = {0xF: "Normal", 0x1: "Device-nGnRE"}.get(descriptor >> 2 & 0xF, "?")
    other = ", another's" if descriptor >> 55 & 1 else ""
    size = {1: "1 GiB", 2: "2 MiB", 3: "4 KiB"}[level]
    return f"{size}, {access}{execute}, {memory}{other}"


def walk(vttbr, vtcr, ipa):
    """Lines about each step; the last says what came of it."""
    bits = 64 - (vtcr & 0x3F)
    level = {0: 2, 1: 1, 2: 0}.get(vtcr >> 6 & 3, 1)
    if ipa >> bits:
        yield f"{ipa:#x} is wider than {bits} bits"
        return
    table = vttbr & 0x0000_FFFF_FFFF_FFFE
    first = True
    while True:
        shift = 39 - 9 * level
        # The first level may be of several tables side by side.
        index = ipa >> shift if first else ipa >> shift & 0x1FF
        first = False
        descriptor = values.word(table + index * 8)
        yield f"level {level}: table {table:#x} [{index}] = {descriptor:#018x}"
        if not descriptor & 1 or (level == 3 and not descriptor & 2):
            yield f"{ipa:#x}: nothing is mapped"
            return
        if level == 3 or not descriptor & 2:
            mask = (1 << shift) - 1
            address = descriptor & ADDRESS & ~mask | ipa & mask
            yield f"{ipa:#x} -> {address:#x} ({attributes(descriptor, level)})"
            return
        table = descriptor & ADDRESS
        level += 1
