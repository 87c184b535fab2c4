//! Fifty processes that do everything at once, and die at any moment.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use coracle_host::{Dir, Kind, Lock};
use coracle_testhost::{Player, Role, run_with};
use coracle_volume::{Terms, VolumeSpec};

use crate::{Dice, State, below};

const AT_ONCE: usize = 50;
const DEATHS: usize = 100;
const SEED: [&str; 4] = ["a", "b", "sub/c", "sub/d"];

/// What a process does until `stop` is there: this or that, as its dice have it.
struct Worker {
    me: String,
    place: std::path::PathBuf,
    state: State,
    owners: Dir,
    image: Dir,
    journal: fs::File,
    dice: Dice,
}

fn worker(role: &mut Role) {
    let line = role.hear().unwrap();
    let (seed, number) = line.split_once(' ').unwrap();
    let me = format!("worker {number}");
    let place = role.dir().to_owned();
    let owners = Dir::open(place.join("owners")).unwrap();
    let _alive = Lock::exclusive(&owners, &me).unwrap();
    let journal = OpenOptions::new().append(true).create(true).open(place.join("journal").join(number));
    let dice = Dice::new(seed.parse::<u64>().unwrap() ^ (number.parse::<u64>().unwrap() << 32));
    let state = State::open(&place);
    let image = Dir::open(place.join("image")).unwrap();
    let mut worker = Worker { me, state, owners, image, journal: journal.unwrap(), dice, place };
    role.say("ready");
    role.hear();
    worker.state.reclaim();
    for round in 0.. {
        match worker.dice.below(9) {
            0..=2 => worker.commits(round),
            3 => worker.churns(round),
            4 => worker.removes(),
            5 => worker.prunes(),
            6 => worker.goes_nameless(round),
            7 => worker.reclaims(),
            _ => worker.clones(round),
        }
        if worker.place.join("stop").exists() {
            return;
        }
        if round % 4 == 0 {
            role.say("still here");
        }
    }
}

impl Worker {
    /// A row that is written down as committed once it is on the disk: from then on it has to be there.
    fn commits(&mut self, round: usize) {
        let name = format!("keep-{}", self.dice.below(4));
        let (volume, loan) =
            self.state.volumes.open_and_lend(&VolumeSpec::new(&name), &self.me, &Terms::new()).unwrap();
        let row = format!("{} {round}", self.me);
        let path = below(&loan, &row);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        file.write_all(row.as_bytes()).unwrap();
        file.sync_all().unwrap();
        writeln!(self.journal, "{name}/{row}").unwrap();
        assert!(volume.users().unwrap().contains(&self.me));
        let error = self.state.volumes.remove(&name).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), row);
    }

    /// A volume that anybody may remove, but not while it is borrowed; and with all of the seed or nothing of it.
    fn churns(&mut self, round: usize) {
        let name = format!("vol-{}", self.dice.below(3));
        let terms = if self.dice.below(2) == 0 { Terms::new() } else { Terms::new().seed(&self.image) };
        let (volume, loan) =
            self.state.volumes.open_and_lend(&VolumeSpec::new(&name), &self.me, &terms).unwrap();
        let row = format!("{} {round}", self.me);
        fs::write(below(&loan, &row), "x").unwrap();
        let seeded = SEED.iter().filter(|file| below(&loan, file).exists()).count();
        assert!(seeded == 0 || seeded == SEED.len(), "{seeded} of the seed's files");
        self.prunes();
        assert_eq!(self.state.volumes.remove(&name).unwrap_err().kind(), Kind::InUse);
        assert!(volume.path().join(&row).exists(), "{name} is not what was borrowed");
    }

    fn removes(&mut self) {
        match self.state.volumes.remove(&format!("vol-{}", self.dice.below(3))) {
            Ok(()) => {}
            Err(error) => assert!(matches!(error.kind(), Kind::NotFound | Kind::InUse), "{error}"),
        }
    }

    fn prunes(&mut self) {
        let kept = |name: &str| name.starts_with("keep-") || name == "golden";
        let pruned = self.state.volumes.prune(true, &[], |volume| kept(volume.name())).unwrap();
        assert!(!pruned.removed.iter().any(|name| kept(name)), "{:?}", pruned.removed);
        assert!(pruned.failed.is_empty(), "{:?}", pruned.failed);
    }

    /// A volume that goes with this process: taken along, or left to those who find this process dead.
    fn goes_nameless(&mut self, round: usize) {
        let volume = self.state.volumes.create_for(&self.me, &VolumeSpec::anonymous()).unwrap();
        match volume.lend(&self.me) {
            Ok(loan) => {
                fs::write(below(&loan, "row"), round.to_string()).unwrap();
                self.reclaims();
                assert_eq!(fs::read_to_string(volume.path().join("row")).unwrap(), round.to_string());
            }
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "pruned at most: {error}"),
        }
        if self.dice.below(2) == 0 {
            let removed = self.state.volumes.remove_of(&self.me).unwrap();
            assert!(removed.failed.is_empty(), "{:?}", removed.failed);
        }
    }

    fn reclaims(&mut self) {
        let lives = |owner: &str| Lock::is_held(&self.owners, owner).unwrap();
        let reclaimed = self.state.volumes.reclaim(lives).unwrap();
        assert!(reclaimed.failed.is_empty(), "{:?}", reclaimed.failed);
        self.state.reclaim();
    }

    /// A clone of a frozen volume: while it is borrowed, the frozen one can't be removed.
    fn clones(&mut self, round: usize) {
        let name = format!("clone-{}-{round}", self.me.replace(' ', "-"));
        let clone = self.state.volumes.clone_volume("golden", &VolumeSpec::new(&name)).unwrap();
        match clone.lend(&self.me) {
            Ok(loan) => {
                assert_eq!(fs::read_to_string(below(&loan, "row")).unwrap(), "golden");
                fs::write(below(&loan, "row"), "mine").unwrap();
                assert_eq!(self.state.volumes.remove("golden").unwrap_err().kind(), Kind::InUse);
            }
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "pruned at most: {error}"),
        }
    }
}

#[test]
fn fifty_work_and_die_and_nothing_is_lost() {
    run_with(&[("worker", worker)], |host| {
        let seed = Dice::seed();
        for name in ["owners", "journal", "image/sub"] {
            fs::create_dir_all(host.dir().join(name)).unwrap();
        }
        SEED.iter().for_each(|name| fs::write(host.dir().join("image").join(name), name).unwrap());
        let state = State::open(host.dir());
        let golden = state.volumes.create(&VolumeSpec::new("golden")).unwrap();
        fs::write(golden.path().join("row"), "golden").unwrap();
        state.volumes.freeze("golden").unwrap();

        let mut dice = Dice::new(seed);
        let mut numbers = 0..;
        let mut start = || -> Player {
            let mut player = host.play("worker");
            player.say(&format!("{seed} {}", numbers.next().unwrap()));
            assert_eq!(player.hear().as_deref(), Some("ready"));
            player
        };
        let mut all: Vec<Player> = (0..AT_ONCE).map(|_| start()).collect();
        all.iter_mut().for_each(|player| player.say("go"));
        for _ in 0..DEATHS {
            let victim = dice.below(AT_ONCE);
            for _ in 0..=dice.below(3) {
                assert!(all[victim].hear().is_some(), "it failed; its words are above");
            }
            let mut next = start();
            next.say("go");
            std::mem::replace(&mut all[victim], next).kill();
        }
        fs::write(host.dir().join("stop"), "").unwrap();
        all.into_iter().for_each(Player::join);

        let committed = committed(&host.dir().join("journal"));
        assert!(committed.len() > DEATHS, "{} rows", committed.len());
        for line in &committed {
            let (name, row) = line.split_once('/').unwrap();
            let volume = state.volumes.find(name).unwrap().unwrap_or_else(|| panic!("no volume {name}"));
            let found = fs::read_to_string(volume.path().join(row));
            assert_eq!(found.unwrap_or_else(|error| panic!("{line}: {error}")), row);
        }
        // Nothing of the dead: no corner, no lock, no entry, no volume of theirs.
        state.reclaim();
        assert_eq!(state.corners(), 1);
        state.volumes.reclaim(|_| false).unwrap();
        state.volumes.prune(true, &[], |volume| volume.name().starts_with("keep-")).unwrap();
        let names = state.volumes.names().unwrap();
        assert_eq!(names, ["keep-0", "keep-1", "keep-2", "keep-3"]);
        for name in names {
            let volume = state.volumes.find(&name).unwrap().unwrap();
            assert!(volume.users().unwrap().is_empty());
            drop(volume.lend("test").unwrap());
            assert_eq!(fs::read_dir(volume.path().with_file_name("users")).unwrap().count(), 0);
            state.volumes.remove(&name).unwrap();
        }
    });
}

fn committed(journals: &Path) -> Vec<String> {
    let journals = fs::read_dir(journals).unwrap().map(|entry| entry.unwrap().path());
    let texts = journals.map(|path| fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}
