//! SMC calling convention (Arm DEN 0028): the services that a guest finds at `hvc #0` and `smc #0`.

/// Version that guests are told: 1.2.
pub const VERSION_1_2: u64 = 0x0001_0002;

/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES: function id.
pub const ARCH_FEATURES: u32 = 0x8000_0001;
/// SMCCC_ARCH_SOC_ID.
pub const ARCH_SOC_ID: u32 = 0x8000_0002;
/// Branch predictor hardening (CVE-2017-5715).
pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
/// Speculative store bypass (CVE-2018-3639).
pub const ARCH_WORKAROUND_2: u32 = 0x8000_7FFF;
/// Branch history (CVE-2022-23960).
pub const ARCH_WORKAROUND_3: u32 = 0x8000_3FFF;

/// Number of calls of the hypervisor service.
pub const HYPERVISOR_CALL_COUNT: u32 = 0x8600_FF00;
/// UUID of the hypervisor service.
pub const HYPERVISOR_UID: u32 = 0x8600_FF01;
/// Revision of the hypervisor service.
pub const HYPERVISOR_REVISION: u32 = 0x8600_FF03;
/// Number of calls of the standard service.
pub const STANDARD_CALL_COUNT: u32 = 0x8400_FF00;
/// UUID of the standard service.
pub const STANDARD_UID: u32 = 0x8400_FF01;
/// Revision of the standard service.
pub const STANDARD_REVISION: u32 = 0x8400_FF03;
/// TRNG_VERSION, the first of the random number services (Arm DEN 0098).
pub const TRNG_VERSION: u32 = 0x8400_0050;
/// TRNG_FEATURES: function id.
pub const TRNG_FEATURES: u32 = 0x8400_0051;
/// TRNG_GET_UUID: which source.
pub const TRNG_GET_UUID: u32 = 0x8400_0052;
/// TRNG_RND32: up to 96 bits, in w3, w2 and w1.
pub const TRNG_RND_32: u32 = 0x8400_0053;
/// TRNG_RND64: up to 192 bits, in x3, x2 and x1.
pub const TRNG_RND_64: u32 = 0xC400_0053;
/// Version of the random number services: 1.0.
pub const TRNG_VERSION_1_0: u64 = 0x0001_0000;
/// TRNG: the source has not enough just now.
pub const TRNG_NO_ENTROPY: i64 = -3;

/// x0..x3 of [`HYPERVISOR_UID`]: Xen's a71812dc-c698-4369-9acf-79d18ddee667.
pub const XEN_UID: [u32; 4] = [0xDC12_18A7, 0x6943_98C6, 0xD179_CF9A, 0x67E6_DE8D];
/// x0..x3 of [`STANDARD_UID`]: f863386f-4b39-4cbd-9220-ce1641e59f6f.
pub const XEN_STANDARD_UID: [u32; 4] = [0x6F38_63F8, 0xBD4C_394B, 0x16CE_2092, 0x6F9F_E541];
/// Calls of the hypervisor service.
pub const HYPERVISOR_CALLS: u64 = 3;
/// Major and minor revision of the hypervisor and the standard service: 0.1.
pub const SERVICE_REVISION: [u64; 2] = [0, 1];

/// Done.
pub const SUCCESS: i64 = 0;
/// No such function.
pub const NOT_SUPPORTED: i64 = -1;
/// The workaround is not needed.
pub const NOT_REQUIRED: i64 = -2;
/// TRNG: more bits than there are registers for, or none.
pub const INVALID_PARAMETERS: i64 = -2;

/// The UUID as the four words of the calling convention: bytes 0..3 in w0, lowest first.
#[cfg(test)]
fn uuid_words(uuid: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(uuid.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().unwrap());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_their_uuids() {
        let xen = 0xa718_12dc_c698_4369_9acf_79d1_8dde_e667_u128;
        assert_eq!(uuid_words(xen.to_be_bytes()), XEN_UID);
        let standard = 0xf863_386f_4b39_4cbd_9220_ce16_41e5_9f6f_u128;
        assert_eq!(uuid_words(standard.to_be_bytes()), XEN_STANDARD_UID);
    }
}
