//! A process spec and a set of mounts become a launch plan, and the container it turns into is supervised.
