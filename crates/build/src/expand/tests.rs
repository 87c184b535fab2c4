use proptest::prelude::*;

use super::*;

fn expand(word: &str, escape: char, vars: &dyn Lookup) -> Result<String, Fault> {
    super::expand(word, escape, vars, &mut Budget::default())
}

fn expand_words(word: &str, escape: char, vars: &dyn Lookup) -> Result<Vec<String>, Fault> {
    super::expand_words(word, escape, vars, &mut Budget::default())
}

fn expand_text(text: &str, escape: char, vars: &dyn Lookup) -> Result<String, Fault> {
    super::expand_text(text, escape, vars, &mut Budget::default())
}

fn vars(name: &str) -> Option<&'static str> {
    match name {
        "x" => Some("val"),
        "path" => Some("/a b/c"),
        "empty" => Some(""),
        "s" => Some("foobarbarz"),
        "star" => Some("*b*"),
        _ => None,
    }
}

fn ok(word: &str) -> String {
    expand(word, '\\', &vars).unwrap()
}

#[test]
fn table() {
    for (word, meaning) in [
        ("plain", "plain"),
        ("$x", "val"),
        ("${x}y$x.z", "valyval.z"),
        ("$x_", ""),
        ("a$none-b", "a-b"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${none-d}", "d"),
        ("${x:-d}", "val"),
        ("${x:+y}", "y"),
        ("${empty:+y}", ""),
        ("${empty+y}", "y"),
        ("${none+y}", ""),
        ("${none:-${x}/e}", "val/e"),
        ("${none:-\"a } b\"}", "a } b"),
        ("${x:?no}", "val"),
        ("${empty?no}", ""),
        ("${x:-${none:?unused}}", "val"),
        // As in the Dockerfile reference: "Environment replacement".
        ("${s#f*b}", "arbarz"),
        ("${s##f*b}", "arz"),
        ("${s%b*z}", "foobar"),
        ("${s%%b*z}", "foo"),
        ("${s/ba/fo}", "fooforbarz"),
        ("${s//ba/fo}", "fooforforz"),
        ("${s#x}", "foobarbarz"),
        ("${s#${none:-fo}}", "obarbarz"),
        ("${s%'z'}", "foobarbar"),
        ("${s/b?r/}", "foobarz"),
        ("${path//\\//-}", "-a b-c"),
        ("${none#a}${none/a/b}", ""),
        ("${star#\\*}", "b*"),
        ("${star%\\*}", "*b"),
        ("${x/${none:-v}/${s%%o*}}", "fal"),
        ("\\$x", "$x"),
        ("\\\\$x", "\\val"),
        ("'$x'", "$x"),
        ("\"$x 'y'\"", "val 'y'"),
        ("\"a\\b\\\"\\$\"", "a\\b\"$"),
        ("a\\ b\\", "a b"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1$$", ""),
        ("${path}", "/a b/c"),
    ] {
        assert_eq!(ok(word), meaning, "{word}");
    }
}

#[test]
fn faults() {
    for (word, at, message) in [
        ("a${x", 1, "`}` is missing after `${x`"),
        ("${}", 0, "bad substitution: no variable is named"),
        ("${x:-d", 4, "`}` is missing"),
        ("${x:d}", 0, "bad substitution: `x` is followed by `:d`"),
        ("${none:?give one}", 0, "`none`: give one"),
        ("${none?}", 0, "`none` must have a value"),
        ("${x/a}", 3, "`/` is missing"),
        ("${x/a/b", 5, "`}` is missing"),
        ("${x#a", 3, "`}` is missing"),
        ("${x:#a}", 0, "bad substitution: `x` is followed by `:#`"),
        ("b'a", 1, "the quote `'` is not closed"),
        ("\"a", 0, "the quote `\"` is not closed"),
    ] {
        let fault = expand(word, '\\', &vars).unwrap_err();
        assert_eq!((fault.at, fault.message.as_str()), (at, message), "{word}");
    }
    let deep = "${n:-".repeat(100);
    assert_eq!(expand(&deep, '\\', &vars).unwrap_err().message, "substitutions nest too deep");
}

#[test]
fn words_and_texts() {
    assert_eq!(expand_words("$path", '\\', &vars).unwrap(), ["/a", "b/c"]);
    assert_eq!(expand_words("\"$path\"$x", '\\', &vars).unwrap(), ["/a b/cval"]);
    assert_eq!(expand_text("it's \"$x\" \\$x \\n\n", '\\', &vars).unwrap(), "it's \"val\" $x \\n\n");
    assert_eq!(expand("`$x", '`', &vars).unwrap(), "$x");
}

#[test]
fn doubling_is_stopped() {
    let big = "y".repeat(1 << 19);
    struct Big(String);
    impl Lookup for Big {
        fn get(&self, _: &str) -> Option<&str> {
            Some(&self.0)
        }
    }
    assert_eq!(expand("$a$a$a$a", '\\', &Big(big)).unwrap_err().kind, Kind::Exhausted);
}

proptest! {
    #[test]
    fn never_panics(word in "[axs${}:?+#%/*'\"\\\\ -]{0,40}") {
        let _ = expand(&word, '\\', &vars);
        let _ = expand_words(&word, '\\', &vars);
        let _ = expand_text(&word, '\\', &vars);
    }

    #[test]
    fn words_without_signs_stay(word in "[a-zA-Z0-9_./=-]{0,40}") {
        prop_assert_eq!(ok(&word), word);
    }
}
