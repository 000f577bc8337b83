//! A list of one grant, which has a way of its own, against the way of all lists.

use super::grants::{PLACE, READ_ONLY, READ_WRITE, grant, side};
use super::support::{BASE, Machine, RAM_GFN, SCRATCH};
use crate::{GuestMemory, OneGrant};
use abi::hypercall::GRANT_TABLE_OP;
use abi::{DomainId, Errno, grant_table as op};
use memory::Va;
use op::GrantRef;
use zerocopy::IntoBytes;

/// What becomes of some items, by the way of one item or that of lists: each after the call, with its result, and machine
/// addresses as the number of the granted frame.
fn served(short: bool) -> Vec<(i64, Vec<u8>)> {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    for reference in 8..12 {
        grant(
            &one,
            reference,
            1,
            2,
            RAM_GFN + 1 + u64::from(reference % 2),
        );
    }
    grant(&one, 12, 1 | 4, 2, RAM_GFN);
    let mut results = Vec::new();
    let mut serve = |command: u64, at: u64, item: &[u8]| {
        two.write(Va::new(at), item).unwrap();
        let result = match OneGrant::of(command, 1).filter(|_| short) {
            Some(one) => one.serve(&two, at).map_or_else(Errno::as_return, |()| 0),
            None => two.returns(GRANT_TABLE_OP, &[command, at, 1]),
        };
        let mut after = vec![0; item.len()];
        two.read(Va::new(at), &mut after).unwrap();
        results.push((result, after));
    };
    // Aligned, not aligned, and across two pages.
    for at in [SCRATCH, SCRATCH + 4, BASE + 0x2000 - 8] {
        for (number, flags) in [READ_WRITE, READ_ONLY, 0, 1, 0x22, 0x1_0002]
            .into_iter()
            .enumerate()
        {
            for (dom, reference) in [(1, 8), (1, 9), (1, 12), (1, 4000), (2, 8), (7, 8)] {
                let item = op::MapGrantRef {
                    host_addr: (PLACE + number as u64) << 12 | u64::from(reference & 1),
                    flags,
                    gref: GrantRef(reference),
                    dom: DomainId(dom),
                    status: 99,
                    handle: 98,
                    dev_bus_addr: 97,
                };
                serve(op::MAP_GRANT_REF, at, item.as_bytes());
            }
        }
        for handle in [0, 1, 2, 3, 4, 5, 300, u32::MAX] {
            for host_addr in [0, PLACE << 12, (PLACE + 1) << 12] {
                let item = op::UnmapGrantRef {
                    host_addr,
                    dev_bus_addr: 96,
                    handle,
                    status: 99,
                    reserved: 95,
                };
                serve(op::UNMAP_GRANT_REF, at, item.as_bytes());
            }
        }
        for (flags, len) in [(1, 16), (2, 16), (3, 0), (1, 4096), (0, 16)] {
            let item = op::GrantCopy {
                source: side(DomainId(1), 8, 8),
                dest: side(DomainId::SELF, RAM_GFN + 3, 16),
                len,
                flags,
                status: 99,
                reserved: 94,
            };
            serve(op::COPY, at, item.as_bytes());
        }
    }
    let frames: Vec<_> = (RAM_GFN..RAM_GFN + 4)
        .map(|gfn| one.physical.frame(gfn).unwrap().get())
        .collect();
    for (_, item) in results.iter_mut().filter(|(_, item)| item.len() == 32) {
        let address = item.last_chunk_mut::<8>().unwrap();
        let is_it = |frame: &u64| *frame == u64::from_le_bytes(*address);
        if let Some(number) = frames.iter().position(is_it) {
            *address = (number as u64).to_le_bytes();
        }
    }
    results
}

#[test]
fn one_item_is_served_as_one_of_a_list() {
    let (short, list) = (served(true), served(false));
    let is_okay = |(_, item): &&(i64, Vec<u8>)| item.len() == 32 && item[18..20] == [0, 0];
    let okay = short.iter().filter(is_okay).count();
    assert!(okay > 4, "{okay} maps");
    for (number, (one, other)) in short.iter().zip(&list).enumerate() {
        assert_eq!(one, other, "item {number}");
    }
}
