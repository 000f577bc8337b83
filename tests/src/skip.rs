//! The skip rule: a test that cannot run fails, unless the person who runs it named it.

/// Called by a test that cannot run here. Returns when `VIADUCT_ALLOW_SKIP` (names separated by
/// commas) has `name`; the test should then return as well.
///
/// # Panics
/// When the name is not listed.
pub fn skip(name: &str, why: &str) {
    let allowed = std::env::var("VIADUCT_ALLOW_SKIP").unwrap_or_default();
    assert!(
        allowed.split(',').any(|entry| entry.trim() == name),
        "{name} cannot run: {why} (VIADUCT_ALLOW_SKIP={name} would allow that)"
    );
    eprintln!("SKIP {name}: {why}");
}
