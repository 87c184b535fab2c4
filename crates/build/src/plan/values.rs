//! Values with a syntax of their own: ports, signals, modes.

use std::net::IpAddr;

/// `80`, `80/udp`, `8000-8010/tcp`: each port with its protocol. As with docker, `[address:][port]:` may stand before, and
/// means nothing: the check `ExposeInvalidFormat` tells of it.
pub(super) fn ports(text: &str) -> Result<Vec<String>, String> {
    let (host, own) = text.rsplit_once(':').map_or((None, text), |(host, own)| (Some(host), own));
    let (numbers, protocol) = own.split_once('/').unwrap_or((own, ""));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("`{protocol}` is no protocol of a port: tcp, udp or sctp"));
    }
    let bad = || format!("`{text}` is no port: 1 to 65535, or a range of them as `8000-8010`");
    let range = |numbers: &str| {
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |n: &str| n.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(bad);
        let (first, last) = (number(first)?, number(last)?);
        if first <= last { Ok((first, last)) } else { Err(bad()) }
    };
    let (first, last) = range(numbers)?;
    if let Some(host) = host {
        let (address, port) = host.rsplit_once(':').map_or((None, host), |(a, port)| (Some(a), port));
        let address = address.map(|a| a.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(a));
        if address.is_some_and(|address| !address.is_empty() && address.parse::<IpAddr>().is_err()) {
            return Err(bad());
        }
        // As many ports there as here, or any of a range for the one here.
        if !port.is_empty() {
            let (begin, end) = range(port)?;
            if first != last && end - begin != last - first {
                return Err(bad());
            }
        }
    }
    Ok((first..=last).map(|n| format!("{n}/{protocol}")).collect())
}

const SIGNALS: [&str; 33] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
];

/// A signal by name, with or without SIG, or by number.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            let offset = rest.strip_prefix(['+', '-']);
            rest.is_empty() || offset.is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 15))
        })
    };
    SIGNALS.contains(&name) || realtime("RTMIN") || realtime("RTMAX")
}

/// An octal mode of at most four digits, also written `0o755`.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'))
        .ok_or_else(|| format!("`{text}` is no octal mode, as `644`"))
}

/// A size in bytes, also `64k`, `64m`, `2g` and `64MiB`, in powers of 1024 as docker counts memory.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A list as Go prints it with `%q`: what image histories have.
pub(super) fn go_quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| serde_json::Value::from(s.as_str()).to_string()).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_signals_and_modes() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("8000-8002").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        for (text, port) in [
            ("8080:80", "80/tcp"),
            ("127.0.0.1:8080:80/udp", "80/udp"),
            ("[::1]:1:80", "80/tcp"),
            (":80", "80/tcp"),
            ("8000-8010:80/", "80/tcp"),
        ] {
            assert_eq!(ports(text).unwrap(), [port], "{text}");
        }
        for bad in
            ["", "0", "65536", "9-8", "80/icmp", "a", "a:80", "80:", "host:80:80", "1-2:80-83", "80/tcp/udp"]
        {
            assert!(ports(bad).is_err(), "{bad}");
        }
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-1", "RTMIN"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "SIGNONE", "RTMIN3", "RTMIN+ä", "RTMIN+99", "RTMINä"] {
            assert!(!is_signal(bad), "{bad}");
        }
        assert_eq!(mode("0755").unwrap(), 0o755);
        for bad in ["u+x", "888", "77777", "", "+7", "-1"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
        assert_eq!(bytes("64m"), Some(64 << 20));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        assert_eq!((bytes("9"), bytes(""), bytes("-1"), bytes("5x")), (Some(9), None, None, None));
        assert_eq!(go_quoted(&["a".into(), "b \"c".into()]), r#"["a" "b \"c"]"#);
    }
}
