//! Tests that fail on purpose, each by leaving one thing behind. Run by `each_leak_is_found`.

use std::process::Command;

use coracle_testhost::run;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_process() {
    run(|_| drop(Command::new("sleep").arg("1000").spawn().unwrap()));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_an_orphan() {
    run(|_| {
        let status = Command::new("sh").args(["-c", "sleep 1000 & exit 0"]).status().unwrap();
        assert!(status.success());
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_mount() {
    run(|host| {
        let here = host.dir().join("here");
        std::fs::create_dir(&here).unwrap();
        mount("tmpfs", &here, "tmpfs", MountFlags::empty(), None).unwrap();
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_mount_less() {
    run(|host| unmount(host.dir(), UnmountFlags::DETACH).unwrap());
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_link() {
    run(|_| make_veth("vt0", "vt1"));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_descriptor() {
    run(|_| std::mem::forget(std::fs::File::open("/proc/1/status").unwrap()));
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_lock() {
    run(|host| {
        let file = std::fs::File::create(host.dir().join("f")).unwrap();
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        use std::os::fd::AsRawFd;
        // SAFETY: the file is open, and `whole` is a live `flock`, as F_OFD_SETLK takes.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
        assert_eq!(result, 0);
        std::mem::forget(file);
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_thread() {
    run(|_| {
        std::thread::spawn(std::thread::park);
    });
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_directory_changed() {
    run(|_| std::env::set_current_dir("/proc").unwrap());
}

#[test]
#[ignore = "fails on purpose"]
fn leaves_a_handler() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    run(|_| {
        // SAFETY: the handler does nothing, which is always allowed.
        unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    });
}

#[test]
#[ignore = "fails on purpose"]
fn panics() {
    run(|_| panic!("the words of the panic"));
}

#[test]
#[ignore = "fails on purpose"]
fn aborts() {
    run(|_| std::process::abort());
}

#[test]
#[ignore = "fails on purpose"]
fn hangs() {
    run(|_| {
        loop {
            std::thread::park();
        }
    });
}

fn elsewhere() {
    run(|_| {});
}

#[test]
#[ignore = "fails on purpose"]
fn is_not_called_by_a_test() {
    elsewhere();
}

#[test]
#[ignore = "run by skips_are_counted"]
fn skips() {
    coracle_testhost::skip("victims::skips", "for a reason");
}

/// `ip link add name type veth peer name peer`: rtnetlink(7) by hand, as this crate has no netlink library.
fn make_veth(name: &str, peer: &str) {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
    };
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    let ifinfomsg = [0u8; 16];
    let peer = [&ifinfomsg[..], &attribute(IFLA_IFNAME, &[peer.as_bytes(), b"\0"].concat())].concat();
    let data = attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
    let info = attribute(IFLA_LINKINFO, &[attribute(IFLA_INFO_KIND, b"veth\0"), data].concat());
    let body = [&ifinfomsg[..], &attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat()), &info].concat();
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(16u16.to_ne_bytes()); // RTM_NEWLINK
    message.extend(0x605u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
    message.extend([0; 8]);
    message.extend(body);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
    send(&socket, &message, SendFlags::empty()).unwrap();
    let mut answer = [0u8; 4096];
    let (read, _) = recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
    assert!(read >= 20);
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), 0, "RTM_NEWLINK");
}
