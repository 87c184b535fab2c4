//! Messages of D-Bus as bytes: the few that systemd is sent, and what it answers (D-Bus specification, "Message
//! Protocol"). No socket in here.

use coracle_host::Kind;

use super::value::{Property, Value};

/// Where all calls go.
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const DESTINATION: &str = "org.freedesktop.systemd1";

/// No message that is of use here is larger.
const LARGEST: usize = 1 << 20;

/// An argument of a call.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    Str(&'a str),
    Bool(bool),
    Properties(&'a [Property]),
    /// Further units: none.
    NoUnits,
}

impl Arg<'_> {
    fn signature(self) -> &'static str {
        match self {
            Arg::Str(_) => "s",
            Arg::Bool(_) => "b",
            Arg::Properties(_) => "a(sv)",
            Arg::NoUnits => "a(sa(sv))",
        }
    }
}

/// A call of systemd's manager (org.freedesktop.systemd1(5)).
pub(super) fn call(serial: u32, member: &str, args: &[Arg<'_>]) -> Vec<u8> {
    let mut body = Writer::default();
    args.iter().for_each(|arg| body.arg(*arg));
    let signature: String = args.iter().map(|arg| arg.signature()).collect();
    let mut message = Writer::default();
    // Least significant byte first, a call, no flags, version 1.
    message.0.extend([b'l', CALL, 0, 1]);
    message.u32(body.0.len() as u32);
    message.u32(serial);
    message.array(8, |fields| {
        for (code, kind, text) in
            [(1, "o", PATH), (3, "s", member), (2, "s", INTERFACE), (6, "s", DESTINATION)]
        {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            fields.string(text);
        }
        fields.align(8);
        fields.0.push(SIGNATURE);
        fields.signature("g");
        fields.signature(&signature);
    });
    message.align(8);
    message.0.extend(body.0);
    message.0
}

const CALL: u8 = 1;
const SIGNATURE: u8 = 8;

/// Appends, with every value at a multiple of its own size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    /// The length in front counts the elements, and not what aligns the first.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(align);
        let first = self.0.len();
        elements(self);
        let size = (self.0.len() - first) as u32;
        self.0[length..length + 4].copy_from_slice(&size.to_le_bytes());
    }

    fn arg(&mut self, arg: Arg<'_>) {
        match arg {
            Arg::Str(text) => self.string(text),
            Arg::Bool(value) => self.u32(value.into()),
            Arg::Properties(properties) => self.array(8, |all| {
                for (name, value) in properties {
                    all.align(8);
                    all.string(name);
                    all.signature(value.signature());
                    all.value(value);
                }
            }),
            Arg::NoUnits => self.array(8, |_| {}),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.u32((*value).into()),
            Value::I32(value) => self.u32(value.cast_unsigned()),
            Value::U32(value) => self.u32(*value),
            Value::I64(value) => self.u64(value.cast_unsigned()),
            Value::U64(value) => self.u64(*value),
            Value::Str(text) => self.string(text),
            Value::Strs(texts) => self.array(4, |all| texts.iter().for_each(|text| all.string(text))),
            Value::Bytes(bytes) => self.array(1, |all| all.0.extend(bytes)),
            Value::U32s(values) => self.array(4, |all| values.iter().for_each(|value| all.u32(*value))),
        }
    }
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The answer to the call with this number, the strings alone.
    Reply { to: u32, strings: Vec<String> },
    /// Its refusal: the error's name, and what it says.
    Refusal { to: u32, name: String, text: String },
    /// A signal and what is in it, the strings alone.
    Signal { member: String, strings: Vec<String> },
    /// Anything else.
    Other,
}

/// The first message in these bytes and how many it has; `None` while it is not whole.
///
/// # Errors
/// Kind `Corrupt` for what is no message.
pub(super) fn incoming(bytes: &[u8]) -> coracle_host::Result<Option<(Incoming, usize)>> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    if head[0] != b'l' || head[3] != 1 {
        return Err(corrupt("begins as none of this machine's"));
    }
    let (body, fields) = (word(4), word(12));
    let start = fields.saturating_add(16).next_multiple_of(8);
    let end = start.saturating_add(body);
    if end > LARGEST {
        return Err(corrupt("is too large"));
    }
    let Some(message) = bytes.get(..end) else { return Ok(None) };
    let incoming = read(head[1], &message[..16 + fields], &message[start..]);
    incoming.map(|incoming| Some((incoming, end))).ok_or_else(|| corrupt("breaks off"))
}

fn corrupt(how: &str) -> coracle_host::Error {
    coracle_host::Error::new(Kind::Corrupt, format!("systemd: what it sent is no message of D-Bus: it {how}"))
}

fn read(kind: u8, header: &[u8], body: &[u8]) -> Option<Incoming> {
    let mut fields = Reader { bytes: header, at: 16 };
    let (mut to, mut member, mut name, mut signature) = (None, None, None, String::new());
    while fields.at < header.len() {
        fields.align(8);
        let code = fields.u8()?;
        match (code, &*fields.signature()?) {
            (5, "u") => to = Some(fields.u32()?),
            (3, "s") => member = Some(fields.string()?),
            (4, "s") => name = Some(fields.string()?),
            (8, "g") => signature = fields.signature()?,
            (_, "s" | "o") => drop(fields.string()?),
            (_, "g") => drop(fields.signature()?),
            (_, "u") => drop(fields.u32()?),
            _ => return None,
        }
    }
    let mut values = Reader { bytes: body, at: 0 };
    Some(match (kind, to) {
        (2, Some(to)) => Incoming::Reply { to, strings: values.strings(&signature)? },
        (3, Some(to)) => {
            let text = values.strings(&signature)?.into_iter().next().unwrap_or_default();
            Incoming::Refusal { to, name: name?, text }
        }
        (4, _) => Incoming::Signal { member: member?, strings: values.strings(&signature)? },
        _ => Incoming::Other,
    })
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let word = self.bytes.get(self.at..self.at.checked_add(4)?)?;
        self.at += 4;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        self.at = end + 1;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()?;
        self.text(length as usize)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.u8()?;
        self.text(length.into())
    }

    /// The strings among these values, up to the first that is neither that nor a number.
    fn strings(&mut self, signature: &str) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for kind in signature.chars() {
            match kind {
                's' | 'o' => found.push(self.string()?),
                'u' | 'i' | 'b' => drop(self.u32()?),
                _ => break,
            }
        }
        Some(found)
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
