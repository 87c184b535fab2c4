//! Blobs going out (distribution-spec, "Pushing blobs"): a small one at once, a large one in chunks.

use std::io::{self, Write};
use std::thread;

use coracle_http::{Request, Response};

use super::Repository;
use super::auth::encoded;
use super::call::{TRIES, Trouble, is_passing, pause, refusal, shown};
use crate::{Blob, Digest, Error, Result};

/// What is sent in one piece, and held in memory until it has arrived.
const CHUNK: usize = 8 << 20;
/// A registry that wants larger pieces (`OCI-Chunk-Min-Length`) gets none.
const MOST_CHUNK: usize = 64 << 20;

impl Repository {
    /// Stores a blob, unless it is there: `write` writes its bytes, once. What was cut on the way goes on where it arrived.
    /// Returns whether it was sent.
    ///
    /// # Errors
    /// `Denied`; what `write` fails with; `Corrupt` where it writes another number of bytes, or the registry got others;
    /// `Unsupported` for a registry that wants pieces of more than 64 MiB.
    pub fn push_blob(&self, blob: Blob, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<bool> {
        if self.has_blob(&blob.digest)?.is_some() {
            return Ok(false);
        }
        let mut upload = self.upload()?;
        let written = write(&mut upload);
        // A writer's own words for it say less.
        match upload.failed.take() {
            Some(error) => return Err(error),
            None => written?,
        }
        let bytes = upload.at + upload.pending.len() as u64;
        if bytes != blob.size {
            let what = format!("blob {}: {bytes} bytes were written of {}", blob.digest, blob.size);
            return Err(Error::corrupt(what));
        }
        upload.finish(&blob.digest)?;
        Ok(true)
    }

    /// Has a blob of another repository of this registry stored here as well. That it can't be is no failure: `false`, and
    /// it is to be pushed.
    ///
    /// # Errors
    /// `Denied`; what the network comes to.
    pub fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool> {
        let query = encoded(&[("mount", &digest.to_string()), ("from", from)]);
        let url = self.url(&format!("blobs/uploads/?{query}"));
        let mut scopes = self.to_write();
        scopes.push(format!("repository:{from}:pull"));
        let request = Request::new("POST", &url).body(&[]);
        let response = self.registry.call(&request, &scopes, &[201, 202])?;
        if response.status() == 201 {
            return Ok(true);
        }
        // An upload was begun in its place; where it can't be given up it ends by itself.
        if let Some(location) = response.location() {
            let _ = self.registry.once(&Request::new("DELETE", &location), &self.to_write());
        }
        Ok(false)
    }

    fn upload(&self) -> Result<Upload<'_>> {
        let url = self.url("blobs/uploads/");
        let request = Request::new("POST", &url).body(&[]);
        let response = self.registry.call(&request, &self.to_write(), &[202])?;
        let least = response.header("oci-chunk-min-length").and_then(|text| text.parse::<usize>().ok());
        let chunk = least.unwrap_or(0).max(CHUNK);
        if chunk > MOST_CHUNK {
            let what = format!("{}: the registry wants pieces of {chunk} bytes or more", shown(&request));
            return Err(Error::unsupported(what));
        }
        let location = location(&request, &response)?;
        Ok(Upload { repository: self, location, chunk, pending: Vec::new(), at: 0, failed: None })
    }
}

fn location(request: &Request<'_>, response: &Response) -> Result<String> {
    let missing = || Error::corrupt(format!("{}: the registry doesn't say where to go on", shown(request)));
    response.location().ok_or_else(missing)
}

/// A blob on its way. Dropped unfinished, it is the registry's to forget.
struct Upload<'r> {
    repository: &'r Repository,
    /// Where the next piece goes: each answer says it anew.
    location: String,
    chunk: usize,
    pending: Vec<u8>,
    /// How many bytes have arrived.
    at: u64,
    failed: Option<Error>,
}

impl Upload<'_> {
    /// Sends what is pending, as often as it takes for it to arrive.
    fn send(&mut self) -> Result<()> {
        let mut tried = 0;
        while !self.pending.is_empty() {
            tried += 1;
            let response = match self.patch() {
                Ok(response) if response.status() == 202 => {
                    self.location = location(&Request::new("PATCH", &self.location), &response)?;
                    self.at += self.pending.len() as u64;
                    self.pending.clear();
                    return Ok(());
                }
                Ok(response)
                    if tried < TRIES && (is_passing(response.status()) || response.status() == 416) =>
                {
                    Some(response)
                }
                Ok(response) => return Err(refusal(&Request::new("PATCH", &self.location), response)),
                Err(trouble) if tried < TRIES && trouble.passing => None,
                Err(trouble) => return Err(trouble.error),
            };
            thread::sleep(pause(tried, response.as_ref().and_then(|answer| answer.header("retry-after"))));
            self.arrived()?;
        }
        Ok(())
    }

    fn patch(&self) -> Result<Response, Trouble> {
        let end = self.at + self.pending.len() as u64 - 1;
        let range = format!("{}-{end}", self.at);
        let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", range.as_str())];
        let request = Request::new("PATCH", &self.location).headers(&headers).body(&self.pending);
        self.repository.registry.once(&request, &self.repository.to_write())
    }

    /// Asks how much has arrived (`Range: 0-99`), and drops that much of what is pending.
    fn arrived(&mut self) -> Result<()> {
        let request = Request::new("GET", &self.location);
        let response = self.repository.registry.call(&request, &self.repository.to_write(), &[204])?;
        let range =
            response.header("range").and_then(|range| range.trim_start_matches("bytes=").split_once('-'));
        // `0-0` is what a registry says that has nothing, too; a first byte that arrived is then sent again, and refused.
        let there = range.and_then(|(_, last)| last.parse::<u64>().ok()).map_or(0, |last| match last {
            0 => 0,
            last => last + 1,
        });
        let new = there.checked_sub(self.at).and_then(|new| usize::try_from(new).ok());
        let Some(new) = new.filter(|new| *new <= self.pending.len()) else {
            let what = format!("{}: the registry has {there} bytes, and not {}", shown(&request), self.at);
            return Err(Error::corrupt(what));
        };
        self.pending.drain(..new);
        self.at = there;
        if let Some(next) = response.location() {
            self.location = next;
        }
        Ok(())
    }

    /// Sends the rest, and has it all stored under its digest.
    fn finish(mut self, digest: &Digest) -> Result<()> {
        if self.at > 0 {
            self.send()?;
        }
        let mark = if self.location.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}{}", self.location, encoded(&[("digest", &digest.to_string())]));
        let headers = [("Content-Type", "application/octet-stream")];
        let request = Request::new("PUT", &url).headers(&headers).body(&self.pending);
        let registry = &self.repository.registry;
        let Err(error) = registry.call(&request, &self.repository.to_write(), &[201, 204]) else {
            return Ok(());
        };
        // The answer may have been lost, and what was asked again is no upload any more.
        match self.repository.has_blob(digest) {
            Ok(Some(_)) => Ok(()),
            _ => Err(error),
        }
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() == self.chunk {
            self.send().map_err(|error| {
                let text = error.to_string();
                self.failed = Some(error);
                io::Error::other(text)
            })?;
        }
        let taken = bytes.len().min(self.chunk - self.pending.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Nothing is sent before there is a whole piece of it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
