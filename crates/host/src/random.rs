//! Identifiers nobody else has.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{Call, Result};

/// `bytes` random bytes from the kernel, as twice as many lower-case hexadecimal digits.
///
/// # Errors
/// `getrandom` failed, which on a running Linux it does not.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut raw = vec![0u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        filled += getrandom(&mut raw[filled..], GetRandomFlags::empty()).call(|| "getrandom()")?;
    }
    Ok(raw.iter().map(|byte| format!("{byte:02x}")).collect())
}
