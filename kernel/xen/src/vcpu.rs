//! `vcpu_op` and `vm_assist` (`xen/include/public/vcpu.h`): where a vCPU's `vcpu_info` and runstate are,
//! and what this crate keeps of a vCPU. vCPUs are started and stopped through PSCI alone.

use crate::{Caller, GuestMemory, Host, SharedPage, XenState, host};
use abi::event_channel::VIRQS;
use abi::shared_info::{VCPU_INFO_PENDING_SEL, VCPU_INFO_SIZE, VCPU_INFO_UPCALL_PENDING};
use abi::vcpu as op;
use abi::vcpu::RunstateInfo;
use abi::{Errno, PAGE_SIZE, VcpuId};
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use memory::{SharedCell, Va};
use sync::SpinLock;

/// [`VcpuState::poll`]: polls for any event.
const POLL_ANY: u32 = u32::MAX;

/// What a vCPU is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Runstate {
    /// Runs on a CPU.
    Running = op::RUNSTATE_RUNNING,
    /// Waits for a CPU.
    Runnable = op::RUNSTATE_RUNNABLE,
    /// Waits for an event.
    Blocked = op::RUNSTATE_BLOCKED,
    /// Is off or paused.
    Offline = op::RUNSTATE_OFFLINE,
}

struct RunstateRecord {
    info: RunstateInfo,
    area: Option<Va>,
}

/// What this crate keeps of a vCPU.
pub struct VcpuState {
    /// Its `vcpu_info` in shared_info; vCPU 0 only.
    first_info: SharedCell<VCPU_INFO_SIZE>,
    /// The same where the guest wants it.
    registered_info: SharedCell<VCPU_INFO_SIZE>,
    /// Port of each virtual interrupt; 0 for none. Written under the lock of the event table.
    virqs: [AtomicU32; VIRQS as usize],
    /// 0, or the port that the vCPU polls for, or [`POLL_ANY`].
    poll: AtomicU32,
    runstate: SpinLock<RunstateRecord>,
    /// Whether there is a runstate area: read without the lock at every change.
    has_runstate_area: AtomicBool,
}

impl VcpuState {
    pub(crate) fn new() -> Self {
        Self {
            first_info: SharedCell::new(),
            registered_info: SharedCell::new(),
            virqs: [const { AtomicU32::new(0) }; VIRQS as usize],
            poll: AtomicU32::new(0),
            runstate: SpinLock::new(RunstateRecord {
                info: RunstateInfo {
                    state: op::RUNSTATE_OFFLINE,
                    ..RunstateInfo::default()
                },
                area: None,
            }),
            has_runstate_area: AtomicBool::new(false),
        }
    }

    pub(crate) fn use_shared_info(&self, page: SharedPage) {
        let offset = abi::shared_info::SHARED_INFO_VCPU_INFO;
        if let Some(info) = page.part(offset, VCPU_INFO_SIZE) {
            let _ = self.first_info.set(info);
        }
    }

    /// Its `vcpu_info`, in which the [`event_words`] lie; `None` while it has none.
    #[inline]
    pub(crate) fn info(&self) -> Option<SharedPage> {
        self.registered_info.get().or_else(|| self.first_info.get())
    }

    /// As before the first life of the domain: only where its `vcpu_info` was at first is kept.
    pub(crate) fn renew(&self) {
        self.registered_info.clear();
        for virq in &self.virqs {
            virq.store(0, SeqCst);
        }
        self.poll.store(0, SeqCst);
        self.has_runstate_area.store(false, SeqCst);
        let mut record = self.runstate.lock();
        record.area = None;
        record.info = RunstateInfo {
            state: op::RUNSTATE_OFFLINE,
            ..RunstateInfo::default()
        };
    }

    /// Accounts that the vCPU changes what it does at `now`, system time in nanoseconds. Any CPU may call it.
    #[inline]
    pub fn change_runstate(&self, state: Runstate, now: u64) {
        let mut record = self.runstate.lock();
        let info = &mut record.info;
        let spent = now.saturating_sub(info.state_entry_time);
        if let Some(time) = info.time.get_mut(info.state as usize) {
            *time = time.saturating_add(spent);
        }
        info.state = state as u32;
        info.state_entry_time = now;
    }

    #[inline]
    pub(crate) fn virq(&self, virq: u32) -> Option<u32> {
        let port = self.virqs.get(virq as usize)?.load(Acquire);
        (port != 0).then_some(port)
    }

    pub(crate) fn set_virq(&self, virq: u32, port: u32) {
        if let Some(slot) = self.virqs.get(virq as usize) {
            slot.store(port, SeqCst);
        }
    }

    pub(crate) fn polls_for(&self, port: u32) -> bool {
        let poll = self.poll.load(SeqCst);
        poll == port || poll == POLL_ANY
    }

    pub(crate) fn is_polling(&self) -> bool {
        self.poll.load(SeqCst) != 0
    }

    /// To be called through [`XenState::start_poll`], which counts.
    pub(crate) fn start_poll(&self, ports: &[u32]) {
        let poll = match ports {
            [port] if *port != 0 => *port,
            _ => POLL_ANY,
        };
        self.poll.store(poll, SeqCst);
    }

    /// Whether it was polling.
    pub(crate) fn stop_poll(&self) -> bool {
        self.poll.load(SeqCst) != 0 && self.poll.swap(0, SeqCst) != 0
    }
}

/// Upcall flag and selector in a `vcpu_info`.
#[inline]
pub(crate) fn event_words(info: &SharedPage) -> Option<(&AtomicU8, &AtomicU64)> {
    Some((
        info.u8(VCPU_INFO_UPCALL_PENDING)?,
        info.u64(VCPU_INFO_PENDING_SEL)?,
    ))
}

#[inline(never)]
pub(crate) fn call<C: Caller>(
    caller: &C,
    cmd: u32,
    vcpu: u32,
    argument: u64,
) -> Result<i64, Errno> {
    let (vcpu, state) = caller.state().vcpu(vcpu)?;
    match u64::from(cmd) {
        op::REGISTER_VCPU_INFO => register_info(caller, vcpu, state, argument)?,
        op::REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(caller, state, argument)?,
        _ => return Err(Errno::Invalid),
    }
    Ok(0)
}

/// Moves `vcpu_info` to the guest's own page. From the moment the new place is set, events are announced
/// there; one that was announced at the old place meanwhile has its pending bit set already, and is found
/// by the scan of all words that the guest is made to do.
fn register_info<C: Caller>(
    caller: &C,
    vcpu: VcpuId,
    state: &VcpuState,
    argument: u64,
) -> Result<(), Errno> {
    let request: op::RegisterVcpuInfo = host::read(caller, argument)?;
    let offset = request.offset as usize;
    if offset > PAGE_SIZE.saturating_sub(VCPU_INFO_SIZE) || !offset.is_multiple_of(8) {
        return Err(Errno::NoSuchAddress);
    }
    if state.registered_info.get().is_some() {
        return Err(Errno::Busy);
    }
    let page = caller.ram_page(request.gfn)?;
    let info = page
        .part(offset, VCPU_INFO_SIZE)
        .ok_or(Errno::NoSuchAddress)?;
    for word in (0..VCPU_INFO_SIZE).step_by(8) {
        let old = state.first_info.get().map_or(0, |first| {
            first.u64(word).map_or(0, |word| word.load(SeqCst))
        });
        if let Some(new) = info.u64(word) {
            new.store(old, SeqCst);
        }
    }
    if !state.registered_info.set(info) {
        return Err(Errno::Busy);
    }
    if let Some((flag, selector)) = event_words(&info) {
        selector.store(u64::MAX, SeqCst);
        flag.store(1, SeqCst);
    }
    Host::upcall(caller, caller.state().id(), vcpu);
    Ok(())
}

/// The area is written at once through the caller's page tables, so that a bad address is refused here (Xen
/// takes it and writes nothing). A null address ends the updates.
fn register_runstate<C: Caller>(caller: &C, state: &VcpuState, argument: u64) -> Result<(), Errno> {
    let request: op::RegisterRunstateArea = host::read(caller, argument)?;
    if request.address == 0 {
        state.has_runstate_area.store(false, SeqCst);
        state.runstate.lock().area = None;
        return Ok(());
    }
    let area = Va::new(request.address);
    let info = state.runstate.lock().info;
    caller.write(area, zerocopy::IntoBytes::as_bytes(&info))?;
    state.runstate.lock().area = Some(area);
    state.has_runstate_area.store(true, SeqCst);
    Ok(())
}

impl XenState {
    /// What is kept of a vCPU, for who changes its runstate often.
    #[must_use]
    pub fn vcpu_state(&self, vcpu: VcpuId) -> Option<&VcpuState> {
        self.vcpus.get(vcpu.0 as usize)
    }

    /// Times of a vCPU up to its last change; `None` if there is no such vCPU.
    #[must_use]
    pub fn runstate(&self, vcpu: VcpuId) -> Option<RunstateInfo> {
        let (_, vcpu) = self.vcpu(vcpu.0).ok()?;
        let info = vcpu.runstate.lock().info;
        Some(info)
    }

    /// Writes a vCPU's runstate to the area that the guest has registered, if any. The vCPU's EL1 context
    /// must be the one loaded on this CPU: call it before the vCPU is switched out and after it is switched
    /// in. An address that the guest has since unmapped is skipped.
    #[inline]
    pub fn publish_runstate(&self, vcpu: &VcpuState, memory: &impl GuestMemory) {
        if vcpu.has_runstate_area.load(Relaxed) {
            let _ = self.write_runstate(vcpu, memory);
        }
    }

    #[inline(never)]
    fn write_runstate(&self, vcpu: &VcpuState, memory: &impl GuestMemory) -> Result<(), Errno> {
        let record = vcpu.runstate.lock();
        let (mut info, area) = (record.info, record.area.ok_or(Errno::Fault)?);
        drop(record);
        if self.assists.load(Relaxed) & 1 << op::VMASST_RUNSTATE_UPDATE_FLAG == 0 {
            return memory.write(area, zerocopy::IntoBytes::as_bytes(&info));
        }
        // The guest reads state_entry_time before and after the rest, and tries again while the flag is set.
        let entry_time = info.state_entry_time;
        let at = core::mem::offset_of!(RunstateInfo, state_entry_time) as u64;
        let entry_time_at = area.checked_add(at).ok_or(Errno::Fault)?;
        info.state_entry_time |= op::RUNSTATE_UPDATE;
        memory.write(entry_time_at, &info.state_entry_time.to_le_bytes())?;
        core::sync::atomic::fence(SeqCst);
        memory.write(area, zerocopy::IntoBytes::as_bytes(&info))?;
        core::sync::atomic::fence(SeqCst);
        memory.write(entry_time_at, &entry_time.to_le_bytes())
    }
}

/// `vm_assist`: on Arm one type only.
#[inline(never)]
pub(crate) fn assist<C: Caller>(caller: &C, cmd: u32, kind: u32) -> Result<i64, Errno> {
    if u64::from(kind) != op::VMASST_RUNSTATE_UPDATE_FLAG {
        return Err(Errno::Invalid);
    }
    let bit = 1_u32.wrapping_shl(kind);
    let assists = &caller.state().assists;
    match u64::from(cmd) {
        op::VMASST_CMD_ENABLE => assists.fetch_or(bit, SeqCst),
        op::VMASST_CMD_DISABLE => assists.fetch_and(!bit, SeqCst),
        _ => return Err(Errno::NoSys),
    };
    Ok(0)
}
