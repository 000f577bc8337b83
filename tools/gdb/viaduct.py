"""gdb commands for a running Viaduct: `help viaduct`. `just debug` loads this; docs/debugging.md has a session."""

import os
import sys

import gdb

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import machine  # noqa: E402
import stage2  # noqa: E402
import values  # noqa: E402


def register(name):
    """A register of the selected CPU, as a number without a sign."""
    return int(gdb.parse_and_eval(f"${name}")) & (1 << 64) - 1


def on_cpu(index, question):
    """The answer of a question about another CPU; the selected one stays selected."""
    before = gdb.selected_thread()
    for thread in gdb.selected_inferior().threads():
        if thread.num == index + 1:
            thread.switch()
            try:
                return question()
            finally:
                before.switch()
    return None


def live(vcpu):
    """The registers of a vCPU that a CPU has in its own, if its guest is running there just now."""

    def ask():
        pstate = register("cpsr")
        if pstate >> 2 & 3 > 1:
            return None
        return [register(f"x{number}") for number in range(31)], register("pc"), pstate

    return on_cpu(vcpu.cpu, ask) if vcpu.is_loaded else None


def interrupted(vcpu):
    """Where a vCPU goes on that is loaded while its CPU is in EL2."""
    return on_cpu(vcpu.cpu, lambda: (register("ELR_EL2"), register("SPSR_EL2")))


class Viaduct(gdb.Command):
    """Looks into Viaduct: domains, vcpus, vcpu, walk, queues, cpus. Wants the debug build's symbols."""

    def __init__(self):
        super().__init__("viaduct", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class Command(gdb.Command):
    """A command that reads what EL2 has in memory."""

    words = 0

    def invoke(self, argument, _from_tty):
        words = gdb.string_to_argv(argument)
        if len(words) != self.words:
            raise gdb.GdbError(self.__doc__.strip().splitlines()[0])
        language = gdb.parameter("language")
        gdb.execute("set language rust", to_string=True)
        try:
            with values.physical():
                self.show(*words)
        finally:
            gdb.execute(f"set language {language}", to_string=True)


class Domains(Command):
    """viaduct domains: all domains, what they do, and where their second stage begins."""

    def show(self):
        print(" ID NAME             STATE            VCPUS VMID STAGE 2")
        for domain in machine.domains():
            vmid, root = domain.vttbr >> 48, domain.vttbr & (1 << 48) - 1
            print(f"{domain.id:>3} {domain.name:<16} {domain.state:<16} {len(domain.vcpus):>5} {vmid:>4} {root:#x}")


class Vcpus(Command):
    """viaduct vcpus: all vCPUs, what they do, and where."""

    def show(self):
        print("VCPU             CPU STATE           PC")
        for domain in machine.domains():
            for vcpu in domain.vcpus:
                registers = live(vcpu)
                if registers:
                    where = f"{registers[1]:#x} (in the guest)"
                elif vcpu.is_loaded:
                    where = f"{interrupted(vcpu)[0]:#x} (loaded, in EL2)"
                else:
                    where = f"{vcpu.stored()[1]['elr_el2']:#x} (stored)"
                print(f"{vcpu.name():<16} {vcpu.cpu:>3} {vcpu.state():<15} {where}")


class OneVcpu(Command):
    """viaduct vcpu DOMAIN NUMBER: the registers of a vCPU."""

    words = 2

    def show(self, name, number):
        found = [vcpu for vcpu in machine.domain(name).vcpus if str(vcpu.id) == number]
        if not found:
            raise gdb.GdbError(f"{name} has no vCPU {number}")
        vcpu = found[0]
        print(f"{vcpu.name()}: {vcpu.state()}, CPU {vcpu.cpu}, viaduct::machine::Vcpu at {vcpu.address:#x}")
        general, system = vcpu.stored()
        registers = live(vcpu)
        if registers:
            general, pc, pstate = registers
            print("in the guest: the CPU has its registers")
        elif vcpu.is_loaded:
            pc, pstate = interrupted(vcpu)
            print("loaded, its CPU in EL2: x0-x18 and x30 are as stored, others and EL1's are the CPU's")
        else:
            pc, pstate = system["elr_el2"], system["spsr_el2"]
        print(f"pc  {pc:#018x}  pstate {pstate:#x}")
        for row in range(0, 31, 4):
            print("  ".join(f"x{n:<2} {general[n]:#018x}" for n in range(row, min(row + 4, 31))))
        if not vcpu.is_loaded:
            names = ["sp_el0", "sp_el1", "esr", "far", "elr", "spsr", "vbar", "sctlr", "tcr", "ttbr0", "ttbr1"]
            print("  ".join(f"{name} {system[name]:#x}" for name in names))


class Walk(Command):
    """viaduct walk DOMAIN IPA: the walk of a guest's second stage for an address."""

    words = 2

    def show(self, name, ipa):
        vttbr = machine.domain(name).vttbr
        for line in stage2.walk(vttbr, register("VTCR_EL2"), int(ipa, 0)):
            print(line)


class Queues(Command):
    """viaduct queues: the vCPU that each CPU has chosen, and those that wait for it."""

    def show(self):
        for cpu in machine.cpus():
            queue = list(machine.queue(cpu))
            chosen = [vcpu.name() for vcpu, state in queue if state == "Current"]
            waiting = [vcpu.name() for vcpu, state in queue if state == "Waiting"]
            words = f"CPU {int(cpu['index'])}: {', '.join(chosen) or 'nobody'} runs"
            print(f"{words}; {', '.join(waiting) or 'nobody'} waits")


class Cpus(Command):
    """viaduct cpus: what each CPU has loaded, and at which exception level it is."""

    def show(self):
        for cpu in machine.cpus():
            index = int(cpu["index"])
            loaded = values.number(cpu["loaded"])
            name = "no vCPU"
            if loaded:
                name = machine.Vcpu(values.at(loaded, gdb.lookup_type("viaduct::machine::Vcpu"))).name()
            level, pc = on_cpu(index, lambda: (register("cpsr") >> 2 & 3, register("pc")))
            print(f"CPU {index}: EL{level} at {pc:#x}, {name} loaded")


def load_symbols(elf):
    """The hypervisor's symbols, where its image lies: as its own vectors say."""
    gdb.execute(f"symbol-file {elf}", to_string=True)
    vectors = register("VBAR_EL2")
    for name in ("viaduct_vectors", "viaduct_traced_vectors"):
        offset = vectors - int(gdb.parse_and_eval(f"(unsigned long)&{name}"))
        # The image lies at a multiple of 64 KiB.
        if offset >= 0 and offset % 0x10000 == 0:
            gdb.execute(f"symbol-file {elf} -o {offset:#x}", to_string=True)
            print(f"Viaduct lies at {offset:#x}")
            return
    raise gdb.GdbError(f"VBAR_EL2 is {vectors:#x}: Viaduct does not run yet, or {elf} is of another build")


class Symbols(gdb.Command):
    """viaduct symbols FILE: the hypervisor's symbols from its ELF file, moved to where it lies."""

    def invoke(self, argument, _from_tty):
        load_symbols(argument)


Viaduct()
for name, command in [
    ("domains", Domains),
    ("vcpus", Vcpus),
    ("vcpu", OneVcpu),
    ("walk", Walk),
    ("queues", Queues),
    ("cpus", Cpus),
]:
    command(f"viaduct {name}", gdb.COMMAND_DATA)
Symbols("viaduct symbols", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)
