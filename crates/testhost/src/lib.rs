//! A private Linux host for one test: its own namespaces, its own tmpfs, and a leak check at the end.
