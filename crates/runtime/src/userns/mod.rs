//! User namespaces (user_namespaces(7)): which ids of the host a container's are, and the namespace as a descriptor.

mod hold;
mod map;
mod space;
mod wanted;

pub use map::{IdMap, IdRange};
pub use space::UserNamespace;
pub(crate) use space::as_owner;
pub(crate) use wanted::Wanted;
