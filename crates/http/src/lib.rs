//! HTTP as builds and registries need it: blocking, over ureq, with rustls and the system's certificates.
//!
//! ```no_run
//! use std::io::Read;
//!
//! use coracle_http::{Client, Proxies, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Proxies::new());
//! let answer = client.send(&Request::new("GET", "https://example.org/notes.txt"))?;
//! assert!(answer.is_success(), "the server says {}", answer.status_line());
//! let mut text = String::new();
//! answer.into_reader().take(1 << 20).read_to_string(&mut text)?;
//! # Ok(())
//! # }
//! ```
//!
//! What matters here:
//!
//! - [`Client`]: follows redirects, and keeps `Authorization` from every server but the one that was asked.
//! - [`Proxies`]: as docker's variables say them, given as a value.
//! - Time limits: 30 seconds to connect, 60 for an answer and between two parts of it, an hour for all.
//!
//! # Should I be using this crate?
//!
//! It is what `coracle-build` (ADD of URLs) and `coracle-layers` (registries) have in common, and no more than they need.
//! For anything else use ureq itself.

#![forbid(unsafe_code)]

mod client;
mod error;
mod proxy;
mod trust;
mod url;

pub use client::{Client, Request, Response};
pub use error::{Error, Result};
pub use proxy::Proxies;
pub use url::same_server;
