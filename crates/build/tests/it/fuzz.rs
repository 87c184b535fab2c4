//! The fuzz targets over corpora of our own: mutated Dockerfiles, what properties come up with, and inputs that grow, where
//! time has to grow with them and no faster.

use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use crate::targets::{ALL, Target, dockerfile, expansion, ignore};

/// What mutation starts from: every instruction and every construct of the language.
const SEEDS: [&str; 8] = [
    "# syntax=docker/dockerfile:1\n# escape=`\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-x} AS b\nRUN a `\n b\n",
    "FROM a\nRUN <<E cat <<-'F' > x\none\nE\n\ttwo\n\tF\nCOPY <<\"G\" h/ /d/\n$x\nG\n",
    "FROM a AS one\nFROM one\nCOPY --from=one --chown=1:2 --chmod=u=rw,go=r --exclude=*.o --parents --link ./x/./y /d/\n",
    "FROM a\nRUN --mount=type=cache,id=x,target=/c,sharing=locked --mount=type=secret,id=s,env=S --network=none [\"a\", \"b\"]\n",
    "FROM a\nENV A=1 B=\"x y\" C='$A' D=a\\ b\nENV E ${A:-b}${B:+c}${C#*x}${D%%y*}${A//b/c}\nLABEL \"k\"=\"v\"\n",
    "FROM scratch\nHEALTHCHECK --interval=5s --retries=3 CMD a || b\nONBUILD ADD --unpack=false x y\nSHELL [\"a\"]\nSTOPSIGNAL 9\n",
    "FROM a\nEXPOSE 80 8000-8010/udp $x\nVOLUME [\"/a\"]\nUSER a:b\nWORKDIR a/$b\nCMD [\"x\"]\nENTRYPOINT y\nMAINTAINER z\n",
    "*.md\n!README*\n**/a/**/b?[a-c^]\\*\n#c\n\0a.md\nREADME.md\nx/a/y/bz\n",
];

/// What is put in: pieces that mean something.
const PIECES: [&str; 28] = [
    "$", "${", "}", "${a:-", "#", "##", "%%", "//", "'", "\"", "\\", "`", "<<E", "\nE\n", "\n", "\\\n", "[",
    "]", "[\"", "--", "=", ",", "FROM a\n", "ONBUILD ", "RUN ", "\0", "\u{e4}", "**/",
];

/// Numbers that are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    fn mutated(&mut self, from: &[u8]) -> Vec<u8> {
        let mut bytes = from.to_vec();
        for _ in 0..=self.roll(6) {
            let (start, length) = (self.roll(bytes.len() + 1), self.roll(24));
            let end = (start + length).min(bytes.len());
            match self.roll(6) {
                0 => drop(bytes.drain(start..end)),
                1 => {
                    let piece = bytes[start..end].to_vec();
                    let at = self.roll(bytes.len() + 1);
                    bytes.splice(at..at, piece);
                }
                2 if start < bytes.len() => bytes[start] = self.roll(256) as u8,
                3 => {
                    let other = SEEDS[self.roll(SEEDS.len())].as_bytes();
                    let from = self.roll(other.len());
                    bytes.splice(start..end, other[from..(from + length).min(other.len())].iter().copied());
                }
                _ => {
                    let piece = PIECES[self.roll(PIECES.len())].bytes();
                    bytes.splice(start..start, piece);
                }
            }
        }
        bytes
    }
}

/// What it costs this thread's processor: others on the machine don't matter.
fn cost(target: Target, input: &[u8]) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    };
    let start = now();
    target(input);
    now() - start
}

#[test]
fn nothing_mutated_panics_or_hangs() {
    let mut dice = Dice(0x5eed_c0de);
    for round in 0..1500 {
        let input = dice.mutated(SEEDS[round % SEEDS.len()].as_bytes());
        for (name, target) in ALL {
            let cost = cost(target, &input);
            assert!(
                cost < Duration::from_secs(2),
                "{name} took {cost:?}: {:?}",
                String::from_utf8_lossy(&input)
            );
        }
    }
}

proptest! {
    #[test]
    fn nothing_random_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        ALL.iter().for_each(|(_, target)| target(&bytes));
    }

    #[test]
    fn nothing_made_of_pieces_panics(pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        dockerfile(format!("FROM a\n{text}").as_bytes());
        expansion(text.as_bytes());
        ignore(text.as_bytes());
    }
}

/// Eight times the input may cost at most this many times as much; where time grows with the square it is 64.
const AT_MOST: u32 = 24;
/// Less than this is measured too badly, and no harm.
const HARMLESS: Duration = Duration::from_millis(40);

#[track_caller]
fn grows_evenly(name: &str, target: Target, input: impl Fn(usize) -> Vec<u8>) {
    let (small, large) = (input(1 << 9), input(1 << 12));
    let least = |input: &[u8]| (0..2).map(|_| cost(target, input)).min().unwrap();
    let (a, b) = (least(&small), least(&large));
    assert!(
        b < HARMLESS || b < a * AT_MOST,
        "{name}: {} bytes {a:?}, {} bytes {b:?}",
        small.len(),
        large.len()
    );
}

/// `n` bytes or some more: `head`, then `piece` again and again.
fn repeated(head: &'static str, piece: &'static str) -> impl Fn(usize) -> Vec<u8> {
    move |n| [head, &piece.repeat(n * 8 / piece.len())].concat().into_bytes()
}

#[test]
fn files_cost_what_their_length_is() {
    for (head, piece) in [
        ("FROM a\n", "RUN x\n"),
        ("FROM a\nEXPOSE", " 80"),
        ("FROM a\nEXPOSE", " 80/TCP"),
        ("FROM a\nEXPOSE", " x"),
        ("FROM a\nENV", " a=b"),
        ("FROM a\nENV", " \u{e4}"),
        ("FROM a\nCOPY", " a"),
        ("FROM a\nRUN ", "a \\\n"),
        ("FROM a\nRUN ", "\\\n"),
        ("FROM a\nRUN \\\n", "# c\n"),
        ("FROM a\nRUN a \\\n", "\n"),
        ("FROM a\nRUN ", "<<E "),
        ("FROM a\nRUN cat ", "<<"),
        ("FROM a\nONBUILD ", "ONBUILD "),
        ("FROM a\nCMD ", "["),
        ("FROM a\nCMD [\"a\"", ", \"b\""),
        ("FROM a\nRUN --mount=type=tmpfs", ",target=/x"),
        ("FROM a\nRUN --mount=type=tmpfs", ",a\""),
        ("FROM a\nRUN ", "--mount=a "),
        ("FROM a\nCOPY ", "--from=a "),
        ("FROM a\nCOPY ", "--frm=a "),
        ("FROM a\n", "RUNN\n"),
        ("", "# check=skip=all\n"),
        ("", "# escape=`\n"),
        ("", "ARG a=$b\n"),
        ("", "FROM a\n"),
        ("FROM a AS s\n", "FROM s AS s\n"),
        ("FROM a\n", "ARG a\n"),
        ("FROM a\n", "ENV a $b\n"),
        ("FROM a\nLABEL a=", "\""),
        ("FROM a\nHEALTHCHECK CMD ", "a "),
        ("FROM a\nRUN ", "'\""),
    ] {
        grows_evenly(&format!("{head:?} {piece:?}"), dockerfile, repeated(head, piece));
    }
    let numbered = |head: &'static str, piece: fn(usize) -> String| {
        move |n: usize| [head.to_owned(), (0..n / 2).map(piece).collect()].concat().into_bytes()
    };
    type Numbered = (&'static str, fn(usize) -> String);
    let pieces: [Numbered; 9] = [
        ("", |i| format!("FROM a AS s{i}\n")),
        ("FROM a AS s0\n", |i| format!("FROM s{i} AS s{}\n", i + 1)),
        ("FROM a\n", |i| format!("ENV v{i}=$v{}\n", i / 2)),
        ("FROM a\nENV", |i| format!(" v{i}=1")),
        ("FROM a\n", |i| format!("ARG v{i}\n")),
        ("FROM a\n", |i| format!("COPY --from=i{i} a b\n")),
        ("FROM a\nRUN --mount=type=tmpfs", |i| format!(",k{i}=1")),
        ("FROM a\nCOPY", |i| format!(" <<E{i}")),
        ("FROM a\nLABEL", |i| format!(" l{i}=1")),
    ];
    for (head, piece) in pieces {
        grows_evenly(&format!("{head:?} {:?}", piece(7)), dockerfile, numbered(head, piece));
    }
}

#[test]
fn words_cost_what_their_length_is() {
    for piece in [
        "$x",
        "${x",
        "${x:-",
        "${x}",
        "${n:-a}",
        "${x#f}",
        "${x##*z}",
        "${x%%*}",
        "${x//o/a}",
        "'",
        "\"",
        "\\",
        "$",
        "{",
        "}",
        "a",
        "\u{e4}",
        " ",
        "${x/${n:-o}/b}",
    ] {
        grows_evenly(piece, expansion, |n| piece.repeat(n / piece.len()).into_bytes());
    }
    // A pattern that fits nearly everywhere.
    grows_evenly("pattern", expansion, |n| format!("${{x#{}b}}", "a".repeat(n)).into_bytes());
}

#[test]
fn patterns_cost_what_their_length_is() {
    for pattern in ["*a*a*a*b", "**/a**/b", "[a-z]*?", "\\**[^x]", "!a*\n**"] {
        grows_evenly(pattern, ignore, |n| [pattern, "\0", &"a/".repeat(n)].concat().into_bytes());
        grows_evenly(pattern, ignore, |n| {
            [&pattern.repeat(n / pattern.len()), "\0", "a/aaaa"].concat().into_bytes()
        });
        grows_evenly(pattern, ignore, |n| {
            [&format!("{pattern}\n").repeat(n / 8), "\0a/aaaa"].concat().into_bytes()
        });
    }
}

/// Each line doubles what the one before has made, or asks for it once more.
#[test]
fn doubling_from_line_to_line_is_an_error() {
    let doubled: String = (1..40).map(|i| format!("ENV v{i}=$v{}$v{}\n", i - 1, i - 1)).collect();
    let wide = |line: &str| {
        let grown: String = (1..18).map(|i| format!("ENV v{i}=$v{0}$v{0}\n", i - 1)).collect();
        format!("FROM a\nENV v0=0123456789\n{grown}{}", line.repeat(400))
    };
    let long = (0..14).map(|i| format!("ENV b{}=$b{i}$b{i}\n", i + 1)).collect::<String>();
    for text in [
        format!("FROM a\nENV v0=0123456789\n{doubled}"),
        wide("LABEL l=$v17\n"),
        wide("RUN x\n"),
        wide("FROM a\n").replace("FROM a\nFROM a\n", "FROM a AS z\n"),
        format!("FROM a\nENV b0=0123456789aaaaaa\n{long}{}", "LABEL l=${b14##*x}\n".repeat(1000)),
        // No path is longer than the kernel takes.
        format!("FROM a\n{}", "WORKDIR w\n".repeat(3000)),
    ] {
        let cost = cost(dockerfile, text.as_bytes());
        assert!(cost < Duration::from_secs(20), "{cost:?} for {} bytes", text.len());
    }
    let error = |text: &str| {
        let file = coracle_build::Dockerfile::parse("D", text.as_bytes()).unwrap();
        let graph = coracle_build::Graph::new(&file, &coracle_build::BuildSpec::new(".")).unwrap();
        let bases = [("a".to_owned(), coracle_build::ImageConfig::scratch())].into();
        graph.plan(&bases).unwrap_err()
    };
    assert_eq!(error(&wide("LABEL l=$v17\n")).kind(), coracle_host::Kind::Exhausted);
    assert_eq!(error(&wide("RUN x\n")).kind(), coracle_host::Kind::Exhausted);
}

#[test]
fn a_place_far_along_a_line_is_shown_in_part() {
    let text = format!("FROM a\nEXPOSE{} x {}\n", " 80".repeat(10_000), "81 ".repeat(10_000));
    let file = coracle_build::Dockerfile::parse("D", text.as_bytes()).unwrap();
    let graph = coracle_build::Graph::new(&file, &coracle_build::BuildSpec::new(".")).unwrap();
    let bases = [("a".to_owned(), coracle_build::ImageConfig::scratch())].into();
    let error = graph.plan(&bases).unwrap_err().to_string();
    assert!(error.starts_with("D:2:30008: `x` is no port"), "{error}");
    let [.., line, carets] = error.lines().collect::<Vec<_>>()[..] else { panic!("{error}") };
    assert!(line.chars().count() < 500 && line.starts_with("2 | …") && line.ends_with('…'), "{error}");
    let caret = carets.chars().position(|c| c == '^').unwrap();
    assert_eq!(line.chars().nth(caret), Some('x'), "{error}");
    let many = format!("FROM a\n{}", "RUNN\n".repeat(1000));
    let error = coracle_build::Dockerfile::parse("D", many.as_bytes()).unwrap_err();
    assert_eq!(error.diagnostics().len(), 201);
    assert_eq!(error.diagnostics()[200].message(), "800 more problems are not shown");
}
