//! The nftables tables of this network namespace (`NFT_MSG_GETTABLE`, linux/netfilter/nf_tables.h).

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADERS: usize = 20; // nlmsghdr and nfgenmsg

/// One sentence for each table. None where the kernel has no nftables: then nobody can leave one.
pub(crate) fn tables() -> Vec<String> {
    let mut found = Vec::new();
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER));
    let Ok(socket) = socket else { return found };
    let mut request = Vec::with_capacity(HEADERS);
    request.extend((HEADERS as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE).to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.resize(HEADERS, 0);
    if send(&socket, &request, SendFlags::empty()).is_err() {
        return found;
    }
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let Ok((read, _)) = recv(&socket, &mut *buffer, RecvFlags::empty()) else { return found };
        let mut rest = &buffer[..read];
        while let Some(length) = u32_at(rest, 0).map(|length| length as usize).filter(|length| *length >= 16)
        {
            let Some(message) = rest.get(..length) else { return found };
            if u16_at(message, 4) != Some(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE) {
                return found; // NLMSG_DONE, or NLMSG_ERROR
            }
            let family = message.get(16).copied().unwrap_or_default();
            found.push(format!("nft table {} (family {family})", name(message).unwrap_or_default()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn name(message: &[u8]) -> Option<String> {
    let mut rest = message.get(HEADERS..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? == NFTA_TABLE_NAME {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
