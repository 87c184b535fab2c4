//! What a cloned child runs: an array of operations and the loop that performs them.
