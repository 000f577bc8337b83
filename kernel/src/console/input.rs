//! Input of the console: to the guest that has it, or to the shell.

use core::sync::atomic::Ordering;

use shell::Input;
use sync::SpinLock;

use super::{STATE, Source, State};
use crate::hypercalls::Machine;
use crate::machine::{self, Domain};
use crate::operator;

/// Bytes of input that are offered at once.
const INPUT: usize = 64;
/// Bytes below it are control characters.
const FIRST_PRINTED: u8 = 0x20;
/// Ctrl-L: a line is to be drawn again.
const REDRAW: u8 = 0x0c;

/// Held while input that waits is offered and taken off, so that no two CPUs offer the same. Taken before the
/// lock of a guest's UART or ring, and before `STATE`.
static DELIVERY: SpinLock<()> = SpinLock::new(());

/// Input: to the guest that has it, or a part of the key that switches. A control character may switch, and goes alone:
/// what comes before it is the guest's that had the input. Others go together.
pub(super) fn take(bytes: &[u8]) {
    bytes
        .chunk_by(|before, after| *before >= FIRST_PRINTED && *after >= FIRST_PRINTED)
        .for_each(take_together);
}

fn take_together(bytes: &[u8]) {
    let to = {
        let mut state = STATE.lock();
        for byte in bytes {
            state.take(*byte);
        }
        state.drain();
        if !state.typed.is_empty() {
            operator::wake();
        }
        state.owner
    };
    if let Some(domain) = to.and_then(of) {
        deliver(domain);
    }
}

impl State {
    fn take(&mut self, byte: u8) {
        let Some(console) = &mut self.console else {
            return;
        };
        match console.input(byte) {
            Input::None => {}
            Input::Switched(source) => {
                self.owner = Some(source);
                self.waiting = 0;
                if self.shell == Some(source) {
                    let _ = self.typed.try_push(REDRAW);
                }
            }
            Input::To(source, bytes) if self.shell == Some(source) => {
                self.owner = Some(source);
                for byte in bytes.iter() {
                    // What comes on top is lost, as on any UART.
                    let _ = self.typed.try_push(*byte);
                }
            }
            Input::To(source, bytes) => {
                self.owner = Some(source);
                for byte in bytes.iter() {
                    let at = self.waiting;
                    if let Some(slot) = self.input.get_mut(at) {
                        *slot = *byte;
                        self.waiting += 1;
                    }
                }
            }
        }
    }
}

fn of(source: Source) -> Option<&'static Domain> {
    machine::domains()
        .iter()
        .find(|domain| domain.console == source)
        .copied()
}

/// Offers the input that waits to the guest: by the way on which it last spoke, its UART or its ring. The
/// rest stays for when there is room, or for `console_io`.
fn deliver(domain: &'static Domain) {
    if !domain.is_running() {
        return;
    }
    let _turn = DELIVERY.lock();
    let mut bytes = [0; INPUT];
    let count = peek(domain, &mut bytes);
    let Some(input) = bytes.get(..count).filter(|input| !input.is_empty()) else {
        return;
    };
    let by_uart = domain.speaks_by_uart.load(Ordering::Relaxed);
    let taken = match &domain.uart {
        Some(uart) if by_uart || domain.xen.console_ring().is_none() => uart.receive(domain, input),
        _ => domain.xen.console_input(&Machine, input),
    };
    discard(domain, taken);
}

/// There may be room for input again.
pub(crate) fn room(domain: &'static Domain) {
    if STATE.lock().waiting != 0 {
        deliver(domain);
    }
}

fn peek(domain: &Domain, into: &mut [u8; INPUT]) -> usize {
    let state = STATE.lock();
    if state.owner != Some(domain.console) {
        return 0;
    }
    let count = state.waiting.min(INPUT);
    if let (Some(target), Some(from)) = (into.get_mut(..count), state.input.get(..count)) {
        target.copy_from_slice(from);
    }
    count
}

fn discard(domain: &Domain, count: usize) {
    let mut state = STATE.lock();
    if state.owner == Some(domain.console) {
        let waiting = state.waiting;
        let count = count.min(waiting);
        if let Some(input) = state.input.get_mut(..waiting) {
            input.copy_within(count.., 0);
        }
        state.waiting -= count;
    }
}

/// Takes input for `console_io`.
pub(crate) fn take_input(domain: &Domain, into: &mut [u8]) -> usize {
    let _turn = DELIVERY.lock();
    let mut bytes = [0; INPUT];
    let count = peek(domain, &mut bytes).min(into.len());
    if let (Some(target), Some(from)) = (into.get_mut(..count), bytes.get(..count)) {
        target.copy_from_slice(from);
    }
    discard(domain, count);
    count
}

/// Whether keys wait for the shell.
pub(crate) fn has_typed() -> bool {
    !STATE.lock().typed.is_empty()
}

/// Takes keys for the shell; how many.
pub(crate) fn take_typed(into: &mut [u8]) -> usize {
    let mut state = STATE.lock();
    let count = state.typed.len().min(into.len());
    for (slot, byte) in into.iter_mut().zip(state.typed.drain(..count)) {
        *slot = byte;
    }
    count
}
