//! What a host that hangs is doing, for the one who has to find out why.

use std::fmt::Write;
use std::fs;

/// All threads of all processes below `pid`, with the function of the kernel that each waits in.
pub(crate) fn describe(pid: u32) -> String {
    let mut text = String::new();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
        let _ = writeln!(text, "  process {pid}: {}", command.trim_end());
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let file = |name: &str| read(task.path().join(name).to_string_lossy().into_owned());
            left.extend(file("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            let (name, waits) = (file("comm"), file("wchan"));
            let _ = writeln!(text, "    {}: {}", name.trim_end(), waits.trim_end());
        }
    }
    text
}
