//! Blobs coming in (distribution-spec, "Pulling blobs").

use std::io::{self, Read, Write};
use std::thread;

use coracle_host::{Call, Kind};
use coracle_http::{Request, Response};

use super::Repository;
use super::call::{TRIES, pause, shown};
use crate::digest::Hashing;
use crate::{Blob, Digest, Error, Result};

const CHUNK: usize = 128 << 10;

impl Repository {
    /// How many bytes a blob has, if it is there.
    ///
    /// # Errors
    /// `Denied`; what the network comes to.
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let url = self.url(&format!("blobs/{digest}"));
        let found = self.registry.find(&Request::new("HEAD", &url), &self.to_read())?;
        let size = |response: Response| response.header("content-length").and_then(|text| text.parse().ok());
        Ok(found.map(|response| size(response).unwrap_or(0)))
    }

    /// Writes a blob as it comes. It is hashed on the way, and no more than its size is ever written; a download that is
    /// cut goes on where it was (`Range`). Only where this returns `Ok` are the bytes those of the digest.
    ///
    /// # Errors
    /// `NotFound`; `Denied`; `Corrupt` where other bytes came; what writing fails with.
    pub fn fetch_blob(&self, blob: Blob, into: &mut dyn Write) -> Result<()> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        let mut out = Hashing::new(into);
        let mut tried = 0;
        loop {
            let before = out.bytes;
            let cut = self.part(&url, blob, &mut out)?;
            if out.bytes == blob.size {
                break;
            }
            tried = if out.bytes > before { 1 } else { tried + 1 };
            if tried >= TRIES {
                let why = cut.map_or("it ends there".to_owned(), |error| error.to_string());
                let what = format!("GET {url}: {} of {} bytes came: {why}", out.bytes, blob.size);
                return Err(Error::new(Kind::Failed, what));
            }
            thread::sleep(pause(tried, None));
        }
        match out.digest() {
            came if came == blob.digest => Ok(()),
            came => Err(Error::corrupt(format!("GET {url}: {came} came in its place"))),
        }
    }

    /// What comes of one request, from where `out` has it; and why it came to an end before the blob's, if that is known.
    fn part(&self, url: &str, blob: Blob, out: &mut Hashing<&mut dyn Write>) -> Result<Option<io::Error>> {
        let range = format!("bytes={}-", out.bytes);
        let headers = [("Range", range.as_str())];
        let headers = if out.bytes > 0 { &headers[..] } else { &[] };
        let request = Request::new("GET", url).headers(headers);
        let response = self.registry.call(&request, &self.to_read(), &[200, 206])?;
        // Who knows no ranges sends all of it again.
        let mut skip = if response.status() == 206 { 0 } else { out.bytes };
        if response.status() == 206 && !begins_at(&response, out.bytes) {
            let what = format!("{}: another part came than {range}", shown(&request));
            return Err(Error::corrupt(what));
        }
        let mut reader = response.into_reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error)),
            };
            let known = usize::try_from(skip).map_or(read, |skip| skip.min(read));
            skip -= known as u64;
            let new = &buffer[known..read];
            if out.bytes + new.len() as u64 > blob.size {
                let what = format!("{}: more than its {} bytes came", shown(&request), blob.size);
                return Err(Error::corrupt(what));
            }
            out.write_all(new).call(|| format!("write(blob {})", blob.digest))?;
        }
    }
}

/// `Content-Range: bytes 7-99/100` (RFC 9110, section 14.4).
fn begins_at(response: &Response, at: u64) -> bool {
    let range = response.header("content-range").and_then(|text| text.trim().strip_prefix("bytes "));
    let start = range.and_then(|range| range.split('-').next()?.trim().parse::<u64>().ok());
    start == Some(at)
}
