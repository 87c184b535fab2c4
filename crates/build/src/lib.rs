//! A Dockerfile and a context become a graph of content-addressed steps, solved with a cache against one trait.
