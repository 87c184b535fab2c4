//! Whoever answers system calls of a container is told of it (config-linux.md, "The Container Process State").

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use coracle_runtime::Listener;
use coracle_runtime::seccomp::Program;
use serde_json::{Value, json};

use crate::error::{During, Result};

/// Connects to who listens for this filter, where somebody is to; who will get the container's `state` and the descriptor.
pub(crate) fn connect(filter: Option<&Program>, state: Value) -> Result<Option<Listener>> {
    let Some((filter, path)) =
        filter.filter(|filter| filter.notifies()).and_then(|filter| Some((filter, filter.listener()?)))
    else {
        return Ok(None);
    };
    let socket =
        UnixStream::connect(path).during(|| format!("linux.seccomp.listenerPath: connect({path:?})"))?;
    let metadata = filter.metadata().unwrap_or_default().to_owned();
    Ok(Some(Box::new(move |fd, process| {
        let pid = process.pid()?;
        let mut state = state;
        if state["pid"] == 0 {
            // It is being created.
            state["pid"] = json!(pid);
        }
        let message = json!({
            "ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid, "metadata": metadata, "state": state,
        });
        coracle_host::send_fds(&socket, message.to_string().as_bytes(), &[fd.as_fd()])
    })))
}
