//! Against what systemctl(1) and systemd-run(1) of systemd 252 send, and what no peer may make of us.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// `systemctl set-property --runtime coracle-db.scope MemoryMax=67108864 CPUWeight=50 AllowedCPUs=0-1,9 TasksMax=64`
#[test]
fn properties_are_set_as_systemctl_does() {
    let sent = bytes(
        "6c0104019800000001000000ad00000001016f00190000002f6f72672f667265656465736b746f702f73797374656d643100
        0000000000000301730011000000536574556e697450726f706572746965730000000000000002017300200000006f72672e
        667265656465736b746f702e73797374656d64312e4d616e61676572000000000000000006017300180000006f72672e6672
        65656465736b746f702e73797374656d643100000000000000000801670007736261287376290000000010000000636f7261
        636c652d64622e73636f7065000000000100000078000000090000004d656d6f72794d617800017400000000000000000000
        00040000000009000000435055576569676874000174000000000000000032000000000000000b000000416c6c6f77656443
        5055730002617900080000000302000000000000080000005461736b734d6178000174004000000000000000",
    );
    let mut processors = vec![0; 8];
    (processors[0], processors[1]) = (3, 2);
    let properties = [
        ("MemoryMax".to_owned(), Value::U64(64 << 20)),
        ("CPUWeight".to_owned(), Value::U64(50)),
        ("AllowedCPUs".to_owned(), Value::Bytes(processors)),
        ("TasksMax".to_owned(), Value::U64(64)),
    ];
    let args = [Arg::Str("coracle-db.scope"), Arg::Bool(true), Arg::Properties(&properties)];
    let mut ours = call(1, "SetUnitProperties", &args);
    // It lets systemd ask for a password (ALLOW_INTERACTIVE_AUTHORIZATION).
    ours[2] = 4;
    assert_eq!(ours, sent);
}

/// `systemd-run --scope --unit=coracle-db --slice=system.slice -p Delegate=yes -p CollectMode=inactive-or-failed true`
#[test]
fn a_scope_is_started_as_systemd_run_does() {
    let sent = bytes(
        "6c010401e000000001000000b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d643100
        000000000000030173001200000053746172745472616e7369656e74556e697400000000000002017300200000006f72672e
        667265656465736b746f702e73797374656d64312e4d616e61676572000000000000000006017300180000006f72672e6672
        65656465736b746f702e73797374656d64310000000000000000080167001073736128737629612873612873762929000000
        10000000636f7261636c652d64622e73636f706500000000040000006661696c00000000b00000000b000000446573637269
        7074696f6e00017300000d0000002f7573722f62696e2f747275650000000800000044656c65676174650001620001000000
        000000000b000000436f6c6c6563744d6f6465000173000012000000696e6163746976652d6f722d6661696c656400000000
        000005000000536c696365000173000000000c00000073797374656d2e736c69636500000000000000000400000050494473
        000261750000000004000000680a00000000000000000000",
    );
    let text = |text: &str| Value::Str(text.to_owned());
    let properties = [
        ("Description".to_owned(), text("/usr/bin/true")),
        ("Delegate".to_owned(), Value::Bool(true)),
        ("CollectMode".to_owned(), text("inactive-or-failed")),
        ("Slice".to_owned(), text("system.slice")),
        ("PIDs".to_owned(), Value::U32s(vec![2664])),
    ];
    let args = [Arg::Str("coracle-db.scope"), Arg::Str("fail"), Arg::Properties(&properties), Arg::NoUnits];
    let mut ours = call(1, "StartTransientUnit", &args);
    ours[2] = 4;
    assert_eq!(ours, sent);
}

/// `JobRemoved`, an answer and an error, laid out by hand from the specification.
#[test]
fn signals_and_refusals_are_read() {
    let mut body = Writer::default();
    body.u32(77);
    ["/org/freedesktop/systemd1/job/77", "coracle-db.scope", "done"]
        .iter()
        .for_each(|text| body.string(text));
    let strings =
        ["/org/freedesktop/systemd1/job/77", "coracle-db.scope", "done"].map(str::to_owned).to_vec();
    let message = message(4, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], &body.0);
    let read = incoming(&message).unwrap();
    assert_eq!(read, Some((Incoming::Signal { member: "JobRemoved".into(), strings }, message.len())));
    for short in 0..message.len() {
        assert_eq!(incoming(&message[..short]).unwrap(), None);
    }
    let mut body = Writer::default();
    body.string("/org/freedesktop/systemd1/job/77");
    let message = self::message(2, &[(5, "u", ""), (8, "g", "o")], &body.0);
    let strings = vec!["/org/freedesktop/systemd1/job/77".to_owned()];
    assert_eq!(incoming(&message).unwrap().unwrap().0, Incoming::Reply { to: 5, strings });
    let mut body = Writer::default();
    body.string("Unit x.scope was already loaded");
    let name = "org.freedesktop.systemd1.UnitExists";
    let message = self::message(3, &[(4, "s", name), (5, "u", ""), (8, "g", "s")], &body.0);
    let text = "Unit x.scope was already loaded".to_owned();
    let refusal = Incoming::Refusal { to: 5, name: name.to_owned(), text };
    assert_eq!(incoming(&message).unwrap().unwrap().0, refusal);
}

fn message(kind: u8, fields: &[(u8, &str, &str)], body: &[u8]) -> Vec<u8> {
    let mut message = Writer::default();
    message.0.extend([b'l', kind, 0, 1]);
    message.u32(body.len() as u32);
    message.u32(9);
    message.array(8, |all| {
        for (code, signature, text) in fields {
            all.align(8);
            all.0.push(*code);
            all.signature(signature);
            match *signature {
                "u" => all.u32(5),
                "g" => all.signature(text),
                _ => all.string(text),
            }
        }
    });
    message.align(8);
    message.0.extend(body);
    message.0
}

proptest! {
    #[test]
    fn whatever_comes_is_no_panic(kind in 0u8..6, mut rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.append(&mut rest);
        if bytes.len() > 16 {
            bytes[4..8].copy_from_slice(&8u32.to_le_bytes());
            bytes[12..16].copy_from_slice(&64u32.to_le_bytes());
        }
        if let Ok(Some((_, size))) = incoming(&bytes) {
            prop_assert!(size <= bytes.len());
        }
    }
}
