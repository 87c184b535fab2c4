//! Archives as docker takes them.

use std::io::{Cursor, Read};

use coracle_build::decompress;
use coracle_host::Call;

use crate::error::Result;

const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = b"\xfd7zXZ\0";

/// An archive as the store takes it: images have layers in gzip and zstd (OCI image specification, layer.md), and what is
/// compressed with bzip2 or xz is decompressed.
pub(super) fn storable<'a>(mut archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let reading = || "read(the archive)".to_owned();
    let mut head = Vec::new();
    archive.by_ref().take(XZ.len() as u64).read_to_end(&mut head).call(reading)?;
    let foreign = head.starts_with(BZIP2) || head.starts_with(XZ);
    let whole = Cursor::new(head).chain(archive);
    Ok(if foreign { decompress(whole).call(reading)? } else { Box::new(whole) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn what_the_store_does_not_take_is_decompressed() {
        let plain = b"a few words".repeat(99);
        let gzip = packed("gzip", &plain);
        for (given, expected) in [
            (packed("xz", &plain), &plain),
            (packed("bzip2", &plain), &plain),
            (gzip.clone(), &gzip),
            (b"x".to_vec(), &b"x".to_vec()),
        ] {
            let mut got = Vec::new();
            storable(given.as_slice()).unwrap().read_to_end(&mut got).unwrap();
            assert!(got == *expected, "{} bytes", got.len());
        }
        assert!(storable(&b"BZh91AY&SYbroken"[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
