//! What proc says of a process.

/// proc_pid_stat(5): the field with this number. The second is in parentheses and may contain anything.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after = text.get(text.rfind(')')? + 1..)?;
    after.split_whitespace().nth(number - 3).map(str::to_owned)
}

/// When it was made, in ticks since the machine started.
pub(crate) fn born(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// Its parent.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

/// Its real user.
pub(crate) fn uid(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// Its arguments, or its name where it has none.
pub(crate) fn command(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    if !text.is_empty() {
        return Some(text);
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("[{}]", name.trim_end()))
}
