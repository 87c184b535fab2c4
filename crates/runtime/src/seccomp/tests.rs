//! Programs do what their profiles mean: against a straightforward reading of the profile, for every architecture.

mod libseccomp;
mod reading;
mod sources;

use proptest::prelude::*;

use super::arch::X32_BIT;
use super::numbers::{ARM_PRIVATE, Numbers, rows};
use super::profile::{Arches, Comparison, Filter, Operator, Rule};
use super::simulate::{data, run, steps};
use super::{Action, Arch, Profile, Program, Target};
use oci_spec::runtime::Capability;
use reading::{Table, meant};

const NAMES: [&str; 17] = [
    "read",
    "write",
    "socket",
    "accept4",
    "socketcall",
    "ipc",
    "semop",
    "shmat",
    "clone",
    "clone3",
    "openat2",
    "personality",
    "breakpoint",
    "rt_sigaction",
    "ioctl",
    "waitpid",
    "nonsense",
];

const VALUES: [u64; 9] =
    [0, 1, 2, 0xffff, 0x1_0001, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0xffff_ffff_0000_0001];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        (0u16..4096).prop_map(Action::Errno),
        Just(Action::Errno(38)),
        (0u16..4096).prop_map(Action::Trace),
        Just(Action::Log),
        Just(Action::Allow),
        Just(Action::Allow),
    ]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let operators = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::AtMost,
        Operator::AtLeast,
        Operator::Greater,
    ];
    let masks = [u64::MAX, u64::MAX, 0xffff_ffff, 0xffff_ffff_0000_0000, 0x7e02_0000, 0];
    let parts =
        (0u8..6, prop::sample::select(operators.to_vec()), prop::sample::select(masks.to_vec()), value());
    parts.prop_map(|(index, operator, mask, value)| match operator {
        // Only equality has masks (SCMP_CMP_MASKED_EQ).
        Operator::Equal => Comparison { index: index % 3, operator, mask, value },
        _ => Comparison { index: index % 3, operator, mask: u64::MAX, value },
    })
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![prop::sample::select(&VALUES), 0u64..40, any::<u64>()]
}

fn rule() -> impl Strategy<Value = Rule> {
    let names = prop::collection::vec(prop::sample::select(&NAMES), 1..4);
    let conditions = prop_oneof![Just(vec![]).boxed(), prop::collection::vec(comparison(), 0..4).boxed()];
    (names, action(), conditions, 0u8..4).prop_map(|(names, action, conditions, when)| {
        let filter = Filter {
            capabilities: if when & 1 == 1 { vec!["CAP_KILL".into()] } else { vec![] },
            ..Filter::default()
        };
        let (includes, excludes) =
            if when & 2 == 2 { (filter, Filter::default()) } else { (Filter::default(), filter) };
        Rule { names: names.into_iter().map(str::to_owned).collect(), action, conditions, includes, excludes }
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let arches = prop::sample::subsequence(Arch::ALL.to_vec(), 0..=6).prop_map(Arches::Listed);
    (action(), arches, prop::collection::vec(rule(), 0..12)).prop_map(|(default, arches, rules)| Profile {
        name: "any".into(),
        default,
        arches,
        rules,
        flags: 0,
        listener: None,
        metadata: None,
    })
}

fn target() -> impl Strategy<Value = Target> {
    let natives = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64];
    (prop::sample::select(natives.to_vec()), any::<bool>())
        .prop_map(|(arch, kill)| Target::new(arch, (6, 1), kill.then_some(Capability::Kill)))
}

/// Numbers at which something changes in any architecture, and some beside them.
fn interesting(names: &[&str]) -> Vec<u32> {
    let numbers = Numbers::new();
    let mut all = vec![0, 470, 511, 600, X32_BIT, X32_BIT - 1, ARM_PRIVATE, u32::MAX, u32::MAX - 1];
    for name in names {
        for number in Arch::ALL.into_iter().filter_map(|arch| numbers.of(name, arch)) {
            let around = [number.saturating_sub(1), number, number + 1];
            all.extend(around.into_iter().flat_map(|number| [number, number | X32_BIT]));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// A profile compiled for a target, to be compared with what it means.
struct Case<'a> {
    table: &'a Table,
    profile: &'a Profile,
    target: &'a Target,
    program: Program,
}

impl<'a> Case<'a> {
    fn new(table: &'a Table, profile: &'a Profile, target: &'a Target) -> Case<'a> {
        Case { table, profile, target, program: profile.compile(target).unwrap() }
    }

    #[track_caller]
    fn same(&self, audit: u32, number: u32, mut arguments: [u64; 6]) {
        if Arch::ALL.iter().any(|arch| arch.audit() == audit && arch.is_narrow()) {
            arguments = arguments.map(|argument| argument & 0xffff_ffff);
        }
        let answer = run(self.program.instructions(), &data(audit, number, arguments));
        let expected = meant(self.table, self.profile, self.target, audit, number, arguments);
        assert!(
            answer == expected,
            "{audit:#x} {number} ({number:#x}) {arguments:x?}: {answer:#x}, not {expected:#x}\n{}",
            self.program.listing()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_program_does_what_its_profile_means(
        profile in profile(),
        target in target(),
        arguments in prop::collection::vec(prop::array::uniform6(value()), 3),
    ) {
        let table = Table::new();
        let case = Case::new(&table, &profile, &target);
        let numbers = interesting(&NAMES);
        let audits = Arch::ALL.map(Arch::audit).into_iter().chain([0]);
        for audit in audits {
            for number in &numbers {
                for arguments in &arguments {
                    case.same(audit, *number, *arguments);
                }
            }
        }
    }

    #[test]
    fn a_profile_survives_the_specifications_format(profile in profile(), target in target()) {
        let there = profile.to_oci(&target);
        let back = Profile::from_oci(&there).unwrap();
        let (one, other) = (profile.compile(&target).unwrap(), back.compile(&target).unwrap());
        prop_assert_eq!(one.instructions(), other.instructions());
    }
}

#[test]
fn dockers_default_does_what_it_means() {
    let table = Table::new();
    let profile = Profile::docker();
    let arguments = [[40; 6], [0x1_0000_0011; 6], [0x2000_0000; 6]];
    for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
        for capabilities in [vec![Capability::Bpf], vec![Capability::SysAdmin, Capability::SysTime]] {
            let target = Target::new(native, (5, 10), capabilities);
            let case = Case::new(&table, &profile, &target);
            for audit in Arch::ALL.map(Arch::audit) {
                let near = (0..480).chain(X32_BIT + 500..X32_BIT + 550).chain(ARM_PRIVATE..ARM_PRIVATE + 9);
                for number in near.chain([X32_BIT - 1, u32::MAX]) {
                    for arguments in arguments {
                        case.same(audit, number, arguments);
                    }
                }
            }
        }
    }
}

#[test]
fn every_number_of_some_operators_borders() {
    let operators =
        [Operator::Less, Operator::AtMost, Operator::AtLeast, Operator::Greater, Operator::NotEqual];
    let (table, target) = (Table::new(), Target::new(Arch::X86_64, (6, 1), []));
    for (operator, value) in operators.into_iter().flat_map(|operator| VALUES.map(|value| (operator, value)))
    {
        let condition = Comparison { index: 5, operator, mask: u64::MAX, value };
        let mut profile = Profile::docker();
        profile.rules = vec![Rule {
            names: vec!["read".into()],
            action: Action::Log,
            conditions: vec![condition],
            includes: Filter::default(),
            excludes: Filter::default(),
        }];
        let case = Case::new(&table, &profile, &target);
        for around in [value.wrapping_sub(1), value, value.wrapping_add(1), value ^ (1 << 32)] {
            case.same(Arch::X86_64.audit(), 0, [0, 0, 0, 0, 0, around]);
            case.same(Arch::X86.audit(), 3, [0, 0, 0, 0, 0, around]);
        }
    }
}

#[test]
fn dockers_default_is_small_and_fast() {
    let target = Target::new(Arch::X86_64, (6, 1), []);
    let program = Profile::docker().compile(&target).unwrap();
    assert_eq!(program.to_string(), format!("default ({} instructions)", program.instructions().len()));
    assert!(program.instructions().len() <= 420, "{program:?}");
    assert!(program.unknown().is_empty(), "{:?}", program.unknown());
    let numbers: Vec<u32> = rows().filter_map(|(_, row)| row[Arch::X86_64.column()]).collect();
    let taken = numbers
        .iter()
        .map(|number| steps(program.instructions(), &data(Arch::X86_64.audit(), *number, [0; 6])).1);
    let (most, sum) = (taken.clone().max().unwrap(), taken.sum::<usize>());
    assert!(most <= 26 && sum / numbers.len() <= 13, "{most} at most, {} on average", sum / numbers.len());
}

#[test]
fn what_the_kernel_would_refuse_is_refused() {
    let target = Target::new(Arch::X86_64, (6, 1), []);
    let mut profile = Profile::docker();
    profile.rules[0].action = Action::Notify;
    let error = profile.compile(&target).unwrap_err().to_string();
    assert_eq!(error, "linux.seccomp: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath");
    profile.listener = Some("/run/agent".into());
    let program = profile.compile(&target).unwrap();
    assert!(program.notifies() && program.listener().is_some());
    let mut profile = Profile::docker();
    let rule = |value| Rule {
        conditions: vec![
            Comparison { index: 0, operator: Operator::Equal, mask: u64::MAX, value },
            Comparison { index: 1, operator: Operator::Equal, mask: u64::MAX, value },
        ],
        ..profile.rules[0].clone()
    };
    let many: Vec<Rule> =
        (0..600).map(rule).map(|rule| Rule { names: vec!["read".into()], ..rule }).collect();
    profile.rules = many;
    let error = profile.compile(&target).unwrap_err().to_string();
    assert!(
        error.starts_with("linux.seccomp: ") && error.ends_with(", and the kernel takes 4096"),
        "{error}"
    );
}
