//! An operator's look at the interrupts.

mod common;

use common::Cpu;
use viaduct_vgic::{IntId, VcpuId, Version, Vgic};

#[test]
fn each_interrupt_that_matters_is_met_once() {
    let vgic = Vgic::new(Version::V3, 2, 64).unwrap();
    let spi = IntId::new(70).unwrap();
    let _ = vgic.pulse::<Cpu>(VcpuId::BOOT, spi, None);
    let (mut place, mut found) = (0, Vec::new());
    while let Some((interrupt, next)) = vgic.inspect(place) {
        assert!(next > place);
        place = next;
        found.extend(interrupt);
    }
    // 16 SGIs of each vCPU are enabled from the start.
    assert_eq!(found.len(), 33);
    assert!(found[..32].iter().all(|it| it.enabled && !it.pending));
    assert_eq!(found[16].vcpu, VcpuId::new(1));
    let last = found[32];
    assert_eq!((last.intid, last.pending, last.enabled), (spi, true, false));
    assert_eq!(last.vcpu, Some(VcpuId::BOOT));
    assert_eq!(place, 32 * 4);
}
