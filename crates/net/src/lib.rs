//! Networks, addresses and names for network namespaces that it is given.
