//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address there are no pointers to be set at each start, in 350 kilobytes that each supervisor of a kept
    // container, which is this program run again, would then have of its own. Programs written in Go, as docker and
    // podman, are linked like this, too; stack, heap and libraries stay at addresses that nobody can guess.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
