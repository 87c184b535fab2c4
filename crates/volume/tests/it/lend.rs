//! Lending, here and in other processes.

use std::fs;

use coracle_host::Kind;
use coracle_testhost::{Role, run, run_with};
use coracle_volume::VolumeSpec;

use crate::{State, below};

#[test]
fn data_outlives_the_loan() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let loan = volume.lend("container db").unwrap();
        fs::write(below(&loan, "row"), "1").unwrap();
        assert_eq!(loan.mount().what(), "volume db");
        drop(loan);
        let again = state.volumes.find("db").unwrap().unwrap().lend("container db2").unwrap();
        assert_eq!(fs::read(below(&again, "row")).unwrap(), b"1");
        assert_eq!(fs::read(volume.path().join("row")).unwrap(), b"1");
    });
}

#[test]
fn read_only_is_recursive() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let inner = volume.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let plain = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &inner, "tmpfs", plain, None).unwrap();
        let loan = volume.lend_read_only("container db").unwrap();
        for name in ["row", "inner/row"] {
            let error = fs::write(below(&loan, name), "1").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{name}");
            fs::write(volume.path().join(name), "2").unwrap();
            assert_eq!(fs::read(below(&loan, name)).unwrap(), b"2", "{name}");
        }
        drop(loan);
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn a_loan_shows_nothing_that_is_mounted_later() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let inner = volume.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let shared = rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC;
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change(host.dir(), shared).unwrap();
        let loan = volume.lend("container db").unwrap();
        rustix::mount::mount("tmpfs", &inner, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::write(inner.join("secret"), "x").unwrap();
        assert!(!below(&loan, "inner/secret").exists());
        drop(loan);
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::empty()).unwrap();
        rustix::mount::mount_change(host.dir(), private).unwrap();
    });
}

fn borrower(role: &mut Role) {
    let state = State::open(role.dir());
    let volume = state.volumes.find("db").unwrap().unwrap();
    let loan = volume.lend(&format!("container {}", role.hear().unwrap())).unwrap();
    role.say("lent");
    while let Some(row) = role.hear() {
        fs::write(below(&loan, &row), "written").unwrap();
        role.say("written");
    }
}

#[test]
fn a_used_volume_stays_until_the_last_borrower_is_gone() {
    run_with(&[("borrower", borrower)], |host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let mut players = ["one", "two"].map(|name| {
            let mut player = host.play("borrower");
            player.say(name);
            assert_eq!(player.hear().as_deref(), Some("lent"));
            player
        });
        players[0].say("row");
        assert_eq!(players[0].hear().as_deref(), Some("written"));
        assert_eq!(volume.users().unwrap(), ["container one", "container two"]);
        let error = state.volumes.remove("db").unwrap_err();
        assert_eq!(error.kind(), Kind::InUse);
        assert_eq!(error.to_string(), "remove volume `db`: in use by container one, container two");

        let [one, two] = players;
        one.kill();
        assert_eq!(volume.users().unwrap(), ["container two"]);
        assert_eq!(state.volumes.remove("db").unwrap_err().kind(), Kind::InUse);
        assert_eq!(fs::read(volume.path().join("row")).unwrap(), b"written");
        two.hang_up().join();
        assert!(volume.users().unwrap().is_empty());
        // The killed one's entry is swept out by the next loan; the other took its own along.
        let entries = || fs::read_dir(volume.path().with_file_name("users")).unwrap().count();
        assert_eq!(entries(), 1);
        let loan = volume.lend("container three").unwrap();
        assert_eq!(entries(), 1);
        drop(loan);
        assert_eq!(entries(), 0);
        state.volumes.remove("db").unwrap();
        assert_eq!(
            volume.lend("late").unwrap_err().to_string(),
            "lend volume `db`: there is none of that name"
        );
        state.reclaim();
        assert_eq!(state.corners(), 1);
    });
}

#[test]
fn the_lock_alone_keeps_the_loan() {
    run(|host| {
        let state = State::open(host.dir());
        let volume = state.volumes.create(&VolumeSpec::new("db")).unwrap();
        let (mount, lock) = volume.lend("container db").unwrap().into_parts();
        drop(mount);
        assert_eq!(volume.users().unwrap(), ["container db"]);
        let kept = rustix::io::fcntl_dupfd_cloexec(&lock, 0).unwrap();
        drop(lock);
        assert_eq!(state.volumes.remove("db").unwrap_err().kind(), Kind::InUse);
        drop(kept);
        state.volumes.remove("db").unwrap();
    });
}
