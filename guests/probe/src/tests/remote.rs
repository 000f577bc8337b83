//! An interrupt that another CPU has, pending or active: what one sees of it, and does to it. CPU 1 keeps interrupts
//! masked and does what CPU 0 tells it.

use super::controller::{HIGH, Hand, LOW, MIDDLE};
use super::interrupts::spare_spis;
use super::smp::everywhere;
use crate::check::{Outcome, check, equal, fail, within};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use runtime::gic::{self, Gic, Target, distributor, v3::redistributor};
use runtime::{cpu, timer};

/// What CPU 1 is to do, 0 when it is done; and what came of it.
static ORDER: AtomicU32 = AtomicU32::new(0);
static ANSWER: AtomicU32 = AtomicU32::new(0);
static SUBJECT: AtomicU32 = AtomicU32::new(0);

/// Acknowledge what comes soon.
const TAKE: u32 = 1;
/// Acknowledge what is there.
const TAKE_NOW: u32 = 2;
/// End what was taken last.
const END: u32 = 3;
/// Whether the subject is active.
const LOOK: u32 = 4;
/// Look at the subject's active state again and again; how often it was active.
const STARE: u32 = 5;
/// Go.
const LEAVE: u32 = 6;

const NOTHING: u32 = 1023;
const LOOKS: u32 = 2000;

fn stare(intid: u32) -> u32 {
    (0..LOOKS).filter(|_| gic::is_active(intid)).count() as u32
}

fn obey() {
    let mut hand = Hand::new(&[]);
    loop {
        let order = ORDER.load(SeqCst);
        let answer = match order {
            0 => {
                core::hint::spin_loop();
                continue;
            }
            TAKE => hand.take_any(Duration::from_secs(20)).unwrap_or(NOTHING),
            TAKE_NOW => hand.take_any(Duration::from_millis(1)).unwrap_or(NOTHING),
            END => {
                hand.end();
                0
            }
            LOOK => u32::from(gic::is_active(SUBJECT.load(SeqCst))),
            STARE => stare(SUBJECT.load(SeqCst)),
            _ => 0,
        };
        ANSWER.store(answer, SeqCst);
        ORDER.store(0, SeqCst);
        if order == LEAVE {
            return;
        }
    }
}

/// Tells CPU 1, which does not wait for the answer.
fn tell(order: u32) {
    ORDER.store(order, SeqCst);
}

fn answer() -> u32 {
    within(Duration::from_secs(60), || ORDER.load(SeqCst) == 0);
    ANSWER.load(SeqCst)
}

/// Tells CPU 1 and waits.
fn ask(order: u32) -> u32 {
    tell(order);
    answer()
}

/// Has CPU 1 obey, and runs `body` with interrupts masked here too.
fn with_other(body: impl FnOnce() -> Outcome) -> Outcome {
    ORDER.store(0, SeqCst);
    everywhere(
        |index| {
            if index == 1 {
                cpu::masked(obey);
            }
        },
        || {
            // From here on it keeps its interrupts masked.
            ask(LOOK);
            let outcome = cpu::masked(body);
            ask(LEAVE);
            outcome
        },
    )
}

pub(crate) fn state() -> Outcome {
    let spis = spare_spis()?;
    let (one, two) = (spis.start, spis.start + 1);
    with_other(|| {
        let mut hand = Hand::new(&[(one, MIDDLE), (two, LOW)]);
        let pend = || {
            gic::route(one, 1);
            gic::set_pending(one);
        };
        pend();
        equal!(ask(TAKE), one, "taken by CPU 1");
        check!(gic::is_active(one), "not active in CPU 1's handler");
        check!(!gic::is_pending(one), "pending in CPU 1's handler");
        gic::set_pending(one);
        check!(gic::is_pending(one), "not pending after ISPENDR");
        gic::clear_pending(one);
        check!(!gic::is_pending(one), "pending after ICPENDR");
        gic::set_pending(one);
        ask(END);
        check!(!gic::is_active(one), "active after its end");
        check!(gic::is_pending(one), "not pending after its end");

        gic::clear_pending(one);
        equal!(ask(TAKE_NOW), NOTHING, "taken after ICPENDR");
        pend();
        gic::disable(one);
        equal!(ask(TAKE_NOW), NOTHING, "taken after ICENABLER");
        check!(gic::is_pending(one), "not pending while disabled");
        gic::enable(one);
        gic::route(one, 1);
        equal!(ask(TAKE), one, "taken after ISENABLER");
        SUBJECT.store(one, SeqCst);
        gic::clear_active(one);
        equal!(ask(LOOK), 0, "active for CPU 1 after ICACTIVER");
        ask(END);

        pend();
        check!(gic::is_pending(one), "not pending on CPU 1");
        gic::route(one, 0);
        hand.take(one)?;
        equal!(
            ask(TAKE_NOW),
            NOTHING,
            "taken by CPU 1 after it was routed away"
        );
        hand.end();

        gic::set_priority(one, LOW);
        gic::set_priority(two, MIDDLE);
        gic::route(two, 1);
        pend();
        gic::set_pending(two);
        gic::set_priority(one, HIGH);
        equal!(ask(TAKE), one, "the more urgent after IPRIORITYR");
        ask(END);
        equal!(ask(TAKE), two, "the other");
        gic::set_active(one);
        SUBJECT.store(one, SeqCst);
        equal!(ask(LOOK), 1, "active for CPU 1 after ISACTIVER");
        ask(END);
        gic::clear_active(one);
        private()
    })
}

/// GICv3: another CPU's redistributor.
fn private() -> Outcome {
    let Some(Gic::V3(gic)) = gic::driver() else {
        return Ok(());
    };
    let other = gic.redistributors.at(0x2_0000 + redistributor::SGI_FRAME);
    let bit = |register| other.read32(register) >> 1 & 1;
    gic::send(1, Target::Cpu(1));
    equal!(bit(distributor::ISPENDR), 1, "SGI pending on CPU 1");
    equal!(ask(TAKE), 1, "SGI taken by CPU 1");
    equal!(bit(distributor::ISPENDR), 0, "SGI pending in the handler");
    equal!(bit(distributor::ISACTIVER), 1, "SGI active in the handler");
    other.write32(distributor::ICACTIVER, 2);
    equal!(bit(distributor::ISACTIVER), 0, "SGI active after ICACTIVER");
    ask(END);
    other.write32(distributor::ISPENDR, 2);
    equal!(ask(TAKE), 1, "SGI made pending by register");
    ask(END);
    other.write32(distributor::ISPENDR, 2);
    other.write32(distributor::ICPENDR, 2);
    equal!(ask(TAKE_NOW), NOTHING, "SGI taken after ICPENDR");
    Ok(())
}

/// Two CPUs that look at each other's interrupts again and again, each with interrupts masked.
pub(crate) fn crossed() -> Outcome {
    let spis = spare_spis()?;
    let (mine, theirs) = (spis.start, spis.start + 1);
    with_other(|| {
        let mut hand = Hand::new(&[(mine, MIDDLE), (theirs, MIDDLE)]);
        gic::route(theirs, 1);
        gic::set_pending(theirs);
        equal!(ask(TAKE), theirs, "taken by CPU 1");
        gic::set_pending(mine);
        hand.take(mine)?;
        SUBJECT.store(mine, SeqCst);
        tell(STARE);
        let seen = stare(theirs);
        equal!(answer(), LOOKS, "times that CPU 1 saw ours active");
        equal!(seen, LOOKS, "times that theirs was seen active");
        ask(END);
        check!(!gic::is_active(theirs), "active after its end");
        Ok(())
    })
}

/// GICv2: an SGI is pending once for each sender, and says who it was. GICv3: once.
pub(crate) fn sources() -> Outcome {
    const SGI: u32 = 7;
    static SENT: AtomicU32 = AtomicU32::new(0);
    SENT.store(0, SeqCst);
    let cpus = cpu::count() as u32;
    let send = |_| {
        gic::send(SGI, Target::Cpu(0));
        gic::send(SGI, Target::Cpu(0));
        SENT.fetch_add(1, SeqCst);
    };
    cpu::masked(|| {
        everywhere(send, || {
            let mut hand = Hand::new(&[(SGI, MIDDLE)]);
            let end = timer::now() + timer::ticks(Duration::from_secs(10));
            while SENT.load(SeqCst) < cpus - 1 {
                check!(timer::now() < end, "not all CPUs sent");
            }
            gic::send(SGI, Target::Myself);
            let mut expected = 1_u32;
            if let Some(Gic::V2(gic)) = gic::driver() {
                let all = (1_u32 << cpus) - 1;
                let pending = || u32::from(gic.distributor.read8(0xf20 + SGI as usize));
                equal!(pending(), all, "GICD_SPENDSGIR");
                gic.distributor.write8(0xf10 + SGI as usize, 2);
                equal!(pending(), all & !2, "GICD_SPENDSGIR after GICD_CPENDSGIR");
                gic.distributor.write8(0xf20 + SGI as usize, 1);
                expected = all & !2;
            }
            let mut came = 0;
            for _ in 0..expected.count_ones() {
                hand.take(SGI)?;
                let Some(taken) = hand.drop_priority() else {
                    fail!("nothing to end");
                };
                came |= 1_u32 << taken.source();
            }
            equal!(came, expected, "senders");
            hand.nothing("each sender once")
        })
    })
}
