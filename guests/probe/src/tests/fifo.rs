//! The FIFO ABI (xen-arm-hypercalls section 8.2): what holds of every event channel, and what is its own:
//! priorities, the order within one, the calls' errors, and the way back.

use super::events::{self, works};
use crate::check::{Outcome, check, equal, soon};
use alloc::{sync::Arc, vec::Vec};
use runtime::abi::Errno::{Invalid, NoEntry, NoSpace, NoSys, NotSupported};
use runtime::abi::{DomainId, Port, event_channel as op, hypercall as number};
use runtime::hypercall::Error;
use runtime::sync::Lock;
use runtime::{cpu, event};

use crate::raw::{hypercall, pointer};

pub(crate) fn all() -> Outcome {
    let mut page = op::ExpandArray { array_gfn: 0 };
    equal!(
        call(op::EXPAND_ARRAY, &mut page),
        NotSupported.as_return(),
        "expand_array first"
    );
    for round in 0..2 {
        works("use_fifo", event::use_fifo())?;
        let outcome = by_fifo();
        works("use_2level", event::use_2level())?;
        outcome?;
        equal!(
            event::set_priority(Port(1), 0),
            Err(Error(NoSys.as_return())),
            "set_priority after round {round}"
        );
        // And by the 2-level ABI again.
        events::ipi()?;
        events::loopback()?;
    }
    Ok(())
}

fn call<T>(command: u64, argument: &mut T) -> i64 {
    hypercall(
        number::EVENT_CHANNEL_OP,
        [command, pointer(argument), 0, 0, 0],
    )
}

fn by_fifo() -> Outcome {
    events::ipi()?;
    events::loopback()?;
    events::mask()?;
    events::poll()?;
    events::wfi()?;
    events::status()?;
    events::exhaust()?;
    if cpu::count() > 1 {
        events::smp()?;
    }
    order()?;
    linked()?;
    errors()
}

/// Ports that were raised together come by priority, and within one in the order in which they were raised.
fn order() -> Outcome {
    const PRIORITIES: [u32; 8] = [7, 15, 0, 7, 3, 0, 15, 7];
    let taken: Arc<Lock<Vec<Port>>> = Arc::new(Lock::new(Vec::new()));
    let mut ports = Vec::new();
    for priority in PRIORITIES {
        let port = works("bind_ipi", event::bind_ipi(0))?;
        works("set_priority", event::set_priority(port, priority))?;
        let theirs = taken.clone();
        works(
            "unmask",
            event::on(port, move |port| theirs.lock().push(port)),
        )?;
        ports.push(port);
    }
    let sent = cpu::masked(|| ports.iter().try_for_each(|port| event::send(*port)));
    works("send", sent)?;
    check!(
        soon(|| taken.lock().len() == ports.len()),
        "{} events",
        taken.lock().len()
    );
    let mut expected: Vec<(u32, Port)> =
        PRIORITIES.into_iter().zip(ports.iter().copied()).collect();
    expected.sort_by_key(|(priority, _)| *priority);
    let expected: Vec<Port> = expected.into_iter().map(|(_, port)| port).collect();
    equal!(taken.lock().clone(), expected, "the order");
    for port in ports {
        event::off(port);
        works("close", event::close(port))?;
    }
    Ok(())
}

/// A port that is closed while it is on a queue is not given out until it was taken off.
fn linked() -> Outcome {
    let (one, other) = cpu::masked(|| -> Result<_, Error> {
        let one = event::bind_ipi(0)?;
        event::unmask(one)?;
        event::send(one)?;
        event::close(one)?;
        Ok((one, event::bind_ipi(0)?))
    })
    .unwrap_or((Port(0), Port(0)));
    check!(one != other, "{one} was given out again");
    let again = works("bind_ipi", event::bind_ipi(0))?;
    equal!(again, one, "the port after it was taken off");
    works("close", event::close(one))?;
    works("close", event::close(other))
}

fn errors() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    let invalid = Err(Error(Invalid.as_return()));
    equal!(event::set_priority(port, 16), invalid, "priority 16");
    equal!(
        event::set_priority(Port(1024), 1),
        invalid,
        "priority of port 1024"
    );
    works("close", event::close(port))?;
    let mut control = op::InitControl::default();
    equal!(
        call(op::INIT_CONTROL, &mut control),
        Invalid.as_return(),
        "init_control of gfn 0"
    );
    control.vcpu = 1000;
    equal!(
        call(op::INIT_CONTROL, &mut control),
        NoEntry.as_return(),
        "init_control of vCPU 1000"
    );
    let mut array = op::ExpandArray { array_gfn: 0 };
    equal!(
        call(op::EXPAND_ARRAY, &mut array),
        NoSpace.as_return(),
        "a second expand_array"
    );
    let mut reset = op::Reset {
        dom: DomainId(0x7000),
    };
    check!(call(op::RESET, &mut reset) < 0, "reset of another domain");
    Ok(())
}
