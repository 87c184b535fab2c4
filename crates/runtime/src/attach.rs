//! Mounts that the parent makes, seen by nobody until the child puts them in place.

use coracle_host::{Error, Kind, Mount, Result};
use rustix::io::Errno;

use crate::{Attachment, device};

/// Makes what the attachment describes.
pub(crate) fn make(attachment: &Attachment) -> Result<Mount> {
    match attachment {
        Attachment::Tmpfs { options, attributes, devices } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            let mount = Mount::new("tmpfs", &options, attributes.at_once())?;
            if let Some(nodes) = devices {
                device::fill(&mount, nodes)?;
            }
            Ok(mount)
        }
        Attachment::DevPts { options, attributes } => {
            let options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            Mount::new("devpts", &options, attributes.at_once())
        }
        Attachment::Proc { namespace, options, attributes } => {
            let namespace = namespace.to_string_lossy();
            let mut options: Vec<(&str, &str)> = options.iter().map(|option| pair(option)).collect();
            options.push(("pidns", &namespace));
            let made = Mount::new("proc", &options, attributes.at_once());
            made.map_err(|error| match error.errno() {
                // Who could mount it from inside would be seen there with all that it still has of the host.
                Some(Errno::INVAL) if error.to_string().contains("pidns") => {
                    let text = format!("{error} (joining a pid namespace needs Linux 6.17)");
                    Error::new(Kind::Unsupported, text)
                }
                _ => error,
            })
        }
        Attachment::Bind { source, recursive, attributes, propagation } => {
            let mount = Mount::bind_path(source, *recursive)?;
            // Its propagation first: what it is to be is said of the whole.
            let mount = match propagation {
                None => mount.private()?,
                Some((propagation, below)) => mount.propagation(*propagation, *below)?,
            };
            attributes.apply(mount)
        }
    }
}

fn pair(option: &str) -> (&str, &str) {
    option.split_once('=').unwrap_or((option, ""))
}
