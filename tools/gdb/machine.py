"""Domains, vCPUs and CPUs of a running hypervisor, as `kernel/src/machine.rs` and `kernel/src/cpus.rs` have them."""

import gdb

import values

#: `domain::lifecycle::RunState`: bits 2..0, and flags.
POWERS = ["off", "starting", "ready", "running", "blocked", "stopping"]
FLAGS = [(1 << 3, "a wake-up waits"), (1 << 4, "held"), (1 << 5, "works for the hypervisor")]


class Vcpu:
    """A vCPU."""

    def __init__(self, value):
        self.value = value
        self.address = int(value.address)
        self.id = values.number(value["id"])
        self.domain = value["domain"].dereference()
        home = values.number(value["home"])
        self.cpu = int(values.at(home, gdb.lookup_type("viaduct::cpus::Cpu"))["index"])
        self.is_loaded = bool(values.number(value["loaded"]))

    def name(self):
        return f"{values.text(self.domain['name'])}/{self.id}"

    def state(self):
        word = values.number(self.value["run"])
        power = word & 7
        words = [POWERS[power] if power < len(POWERS) else f"state {power}"]
        words += [name for bit, name in FLAGS if word & bit]
        return ", ".join(words)

    def stored(self):
        """x0 to x30, and the system registers by name, as the context has them."""
        context = self.value["context"]
        registers = values.inside(context["registers"], "viaduct_arch::context::Registers")["x"]
        system = values.inside(context["system"], "viaduct_arch::system::System")
        general = [int(registers[index]) for index in range(31)]
        return general, {field.name: int(system[field]) for field in system.type.fields()}


class Domain:
    """A domain."""

    def __init__(self, value):
        self.value = value
        self.id = values.number(value["id"])
        self.name = values.text(value["name"])
        self.vttbr = int(value["vttbr"])
        self.state = values.variant(values.inside(value["life"], "viaduct_domain::life::State"))
        boxed = values.inside(value["vcpus"], "alloc::boxed::Box<[")
        self.vcpus = [Vcpu(vcpu) for vcpu in values.boxed(boxed)] if boxed is not None else []


def _list(static, kind):
    once = values.static(static)
    if values.number(once["state"]) != 2:
        return []
    vector = values.inside(once["value"], "alloc::vec::Vec")
    return [values.at(int(item), gdb.lookup_type(kind)) for item in values.items(vector)]


def domains():
    """All domains; none before they are published."""
    return [Domain(value) for value in _list("viaduct::machine::list::DOMAINS", "viaduct::machine::Domain")]


def domain(name):
    """The domain with this name or number."""
    for found in domains():
        if name in (found.name, str(found.id)):
            return found
    raise gdb.GdbError(f"there is no domain {name} (viaduct domains)")


def cpus():
    """All CPUs that are up, as values."""
    return _list("viaduct::cpus::CPUS", "viaduct::cpus::Cpu")


def queue(cpu):
    """What is in a CPU's run queue: (vCPU, state) of each place in use."""
    entries = values.inside(cpu["queue"]["value"], "viaduct_domain::sched::queue::RunQueue")
    for entry in values.items(entries["entries"]):
        vcpu = values.word(int(entry["vcpu"].address))
        if vcpu:
            value = values.at(vcpu, gdb.lookup_type("viaduct::machine::Vcpu"))
            yield Vcpu(value), values.variant(entry["state"])
