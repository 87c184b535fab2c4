use super::*;

struct Place {
    _root: tempfile::TempDir,
    record: Record,
    book: Book,
}

fn place(subnet: &str) -> Place {
    let root = tempfile::tempdir().unwrap();
    let dir = Dir::open(root.path()).unwrap();
    dir.make("leases", 0o755).unwrap();
    dir.make("names", 0o755).unwrap();
    let text = format!(
        r#"{{"version":2,"id":"{}","name":"web","driver":"bridge","created":7,"pools":[{{"subnet":"{subnet}","gateway":"10.1.0.1"}}]}}"#,
        "ab".repeat(32)
    );
    let record = Record::read(text.as_bytes(), Path::new("/record")).unwrap();
    Place { book: Book::open(&dir).unwrap(), record, _root: root }
}

fn holder(container: &str, names: &[&str]) -> Holder {
    Holder {
        container: container.into(),
        names: names.iter().map(|name| name.to_string()).collect(),
        ..Holder::default()
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, last)
}

#[test]
fn the_next_free_address_until_there_is_none() {
    let Place { record, book, _root } = place("10.1.0.0/29");
    let mut leases: Vec<_> = (0..5).map(|_| book.take(&record, None, None).unwrap()).collect();
    assert_eq!(leases.iter().map(|lease| lease.address).collect::<Vec<_>>(), [2, 3, 4, 5, 6].map(ip));
    let error = book.take(&record, None, None).unwrap_err();
    assert_eq!(error.to_string(), "all 5 addresses of 10.1.0.0/29 are leased");
    assert_eq!(error.kind(), Kind::Exhausted);
    drop(leases.remove(1));
    assert_eq!(book.take(&record, None, None).unwrap().address, ip(3));
}

#[test]
fn a_wanted_address_is_had_or_refused_with_the_reason() {
    let Place { record, book, _root } = place("10.1.0.0/24");
    let lease = book.take(&record, Some(ip(77)), None).unwrap();
    lease.publish(&holder("c0ffee", &["web", "c0ffee"])).unwrap();
    let refused = |address| {
        let error = book.take(&record, Some(address), None).unwrap_err();
        (error.kind(), error.to_string())
    };
    assert_eq!(refused(ip(77)), (Kind::InUse, "address 10.1.0.77 is in use by web (c0ffee)".into()));
    assert_eq!(refused(ip(1)), (Kind::InUse, "address 10.1.0.1 is in use by the gateway".into()));
    let outside = Ipv4Addr::new(10, 2, 0, 1);
    for wrong in [outside, ip(0), ip(255)] {
        assert_eq!(refused(wrong), (Kind::Invalid, format!("{wrong} is no host address of 10.1.0.0/24")));
    }
}

#[test]
fn names_are_found_while_the_lease_is_held() {
    let Place { record, book, _root } = place("10.1.0.0/24");
    let (one, two) = (book.take(&record, None, None).unwrap(), book.take(&record, None, None).unwrap());
    one.publish(&holder("a", &["Web", "a"])).unwrap();
    two.publish(&holder("b", &["db", "web"])).unwrap();
    assert_eq!(book.find("WEB").unwrap(), [IpAddr::from(ip(2)), IpAddr::from(ip(3))]);
    assert_eq!(book.find("db").unwrap(), [IpAddr::from(ip(3))]);
    assert!(book.find("nobody").unwrap().is_empty());
    assert_eq!(book.holder(ip(3).into()).unwrap(), Some(holder("b", &["db", "web"])));
    assert_eq!(book.held().unwrap().len(), 2);
    // As after SIGKILL: the lock goes, everything else stays.
    drop(two);
    assert_eq!(book.find("web").unwrap(), [IpAddr::from(ip(2))]);
    assert!(book.find("db").unwrap().is_empty());
    assert_eq!(book.holder(ip(3).into()).unwrap(), None);
    assert!(book.names.has("db").unwrap());
    // The next holder sweeps up and is not found by the dead one's names.
    let next = book.take(&record, Some(ip(3)), None).unwrap();
    assert!(!book.names.has("db").unwrap());
    next.publish(&holder("c", &["cache"])).unwrap();
    assert_eq!((book.find("db").unwrap(), book.find("cache").unwrap()), (vec![], vec![ip(3).into()]));
    one.clear().unwrap();
    assert!(book.find("web").unwrap().is_empty());
    assert!(!book.names.has("web").unwrap(), "the last one out removes the name");
}

#[test]
fn many_take_and_leave_one_name_at_once() {
    let Place { record, book, _root } = place("10.1.0.0/24");
    std::thread::scope(|scope| {
        for at in 0..16 {
            let (book, record) = (&book, &record);
            scope.spawn(move || {
                for _ in 0..50 {
                    let lease = book.take(record, None, None).unwrap();
                    lease.publish(&holder(&at.to_string(), &["same"])).unwrap();
                    assert!(book.find("same").unwrap().contains(&lease.address.into()));
                    lease.clear().unwrap();
                }
            });
        }
    });
    assert_eq!(book.held().unwrap(), []);
    assert_eq!(book.names.names().unwrap().len(), 0);
}

#[test]
fn two_families_are_two_locks_of_one_holder() {
    let Place { mut record, book, _root } = place("10.1.0.0/24");
    record.pools.push(crate::ipam::plain("fd00::/64".parse().unwrap()));
    let six = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let one = book.take(&record, None, None).unwrap();
    assert_eq!((one.address, one.ipv6), (ip(2), Some(six(2))));
    one.publish(&Holder { ipv6: one.ipv6, ..holder("a", &["web"]) }).unwrap();
    assert_eq!(book.find("web").unwrap(), [IpAddr::from(ip(2)), six(2).into()]);
    assert_eq!(book.holder(six(2).into()).unwrap().unwrap().names, ["web"]);
    assert_eq!(book.held().unwrap().len(), 1);
    let error = book.take(&record, None, Some(six(2))).unwrap_err();
    assert_eq!(error.to_string(), "address fd00::2 is in use by web (a)");
    let error = book.take(&record, None, Some(six(1))).unwrap_err();
    assert_eq!(error.to_string(), "address fd00::1 is in use by the gateway");
    // What was taken on the way is free again.
    assert_eq!(book.take(&record, None, Some(six(9))).unwrap().address, ip(3));
    one.clear().unwrap();
    assert!(book.find("web").unwrap().is_empty() && book.names.names().unwrap().is_empty());
}

#[test]
fn a_rename_leaves_nothing_of_the_old_names() {
    let Place { record, book, _root } = place("10.1.0.0/24");
    let lease = book.take(&record, None, None).unwrap();
    let (old, new) = (holder("a", &["one", "same"]), holder("a", &["two", "Same"]));
    lease.publish(&old).unwrap();
    lease.rename(&old, &new).unwrap();
    assert_eq!((book.find("one").unwrap(), book.find("two").unwrap().len()), (vec![], 1));
    assert_eq!(book.find("same").unwrap(), [IpAddr::from(ip(2))]);
    assert!(!book.names.has("one").unwrap());
    lease.clear().unwrap();
    assert_eq!(book.names.names().unwrap().len(), 0);
}
