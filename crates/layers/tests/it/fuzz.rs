//! Thousands of archives that nobody would write: whatever they say, nothing outside changes.

use coracle_host::Dir;
use coracle_layers::{ImportOptions, Store, UpperOptions};
use coracle_testhost::run;

use crate::hostile::{Member, Tar, dir, file, hard_link, symlink};
use crate::tree::describe;
use crate::{blob_of, store, tree_of};

/// Numbers that are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }

    fn path(&mut self) -> String {
        let parts = 1 + self.roll(4);
        let names = [
            "a",
            "b",
            "c",
            "d",
            ".",
            "..",
            ".wh.a",
            ".wh.b",
            ".wh..wh..opq",
            "a",
            "b",
            "c",
            "d",
            "a",
            "b",
            "c",
        ];
        let path: Vec<&str> = (0..parts).map(|_| self.of(&names)).collect();
        format!("{}{}", self.of(&["", "", "", "", "./", "/"]), path.join("/"))
    }

    fn member(&mut self, outside: &str) -> Member {
        let name = self.path();
        let target = match self.roll(4) {
            0 => outside.to_owned(),
            1 => format!("{}{outside}", "../".repeat(self.roll(20))),
            2 => format!("{}{}", "../".repeat(self.roll(3)), self.path()),
            _ => self.path(),
        };
        match self.roll(8) {
            0 | 1 => dir(&name),
            2 | 3 => symlink(&name, &target),
            4 => hard_link(&name, &target),
            5 => Member::new(&name, b'6', "", b""),
            _ => file(&name, target.as_bytes()),
        }
    }

    fn tar(&mut self, outside: &str) -> Vec<u8> {
        (0..1 + self.roll(12)).fold(Tar::new(), |tar, _| tar.add(self.member(outside))).end()
    }
}

#[test]
fn nothing_outside_is_touched() {
    run(|host| {
        let outside = host.dir().join("outside");
        std::fs::create_dir(&outside).unwrap();
        for name in ["a", "b", "c", "d"] {
            std::fs::write(outside.join(name), name).unwrap();
        }
        let (before, root) = (describe(&outside), std::fs::read_dir("/").unwrap().count());
        let mut dice = Dice(0x2545_F491_4F6C_DD1D);
        let (mut taken, mut refused) = (0, 0);
        for round in 0..1500 {
            let place = host.dir().join("state");
            let store = store(&place);
            let mut parent = None;
            for _ in 0..3 {
                let tar = dice.tar(outside.to_str().unwrap());
                let _ = store.import(tar.as_slice(), &ImportOptions::new());
                match store.add_layer_from_tar(parent.as_ref(), tar.as_slice()) {
                    Ok(layer) => parent = Some(layer.chain_id()),
                    Err(_) => refused += 1,
                }
            }
            if let Some(top) = parent {
                taken += 1;
                again(host.dir(), &place, &store, &top);
            }
            assert_eq!(describe(&outside), before, "round {round}");
            drop(store);
            std::fs::remove_dir_all(&place).unwrap();
        }
        assert_eq!(std::fs::read_dir("/").unwrap().count(), root);
        assert!(taken > 300 && refused > 300, "{taken} taken, {refused} refused");
    })
}

/// What was unpacked packs and unpacks to itself.
fn again(here: &std::path::Path, place: &std::path::Path, store: &Store, top: &coracle_layers::ChainId) {
    let layer = store.layer(top).unwrap().unwrap();
    let tree = tree_of(place, &layer);
    let before = describe(&tree);
    let home = Dir::open(here).unwrap();
    std::fs::rename(&tree, here.join("upper")).unwrap();
    let packed = store.add_layer_from_upper(None, &home, "upper", &UpperOptions::new()).unwrap();
    // Only on top of something do removals mean something.
    let base = store.add_layer_from_tar(None, Tar::new().add(dir("base")).end().as_slice()).unwrap();
    let unpacked =
        store.add_layer_from_tar(Some(&base.chain_id()), blob_of(store, &packed).as_slice()).unwrap();
    let mut after = describe(&tree_of(place, &unpacked));
    // A root like that of the layer below is not in the archive.
    after.insert("".into(), before[std::path::Path::new("")].clone());
    assert_eq!(after, before);
}
