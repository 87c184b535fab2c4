//! "FROM", "LABEL", "ENV", "EXPOSE", "ARG".

use coracle_build::{BuildSpec, Dockerfile, Graph, Op};

use super::{argv, config, last, plan, planned, ran, variable};

#[test]
fn from_and_how_it_goes_with_arg() {
    let text = "ARG CODE=latest\nFROM base:${CODE}\nRUN one\nFROM extras:${CODE}\nARG CODE\nRUN two\n";
    let spec = BuildSpec::new(".").arg("CODE", "7");
    let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
    assert_eq!(Graph::new(&file, &spec).unwrap().images(), ["extras:7"], "the other stage is not needed");
    let made = planned(text, &spec);
    let Op::Run(command) = &last(&made).steps[1].op else { panic!() };
    assert!(command.env.contains(&("CODE".into(), "7".into())));
    let made = plan("FROM --platform=$BUILDPLATFORM a AS build\nRUN x\nFROM build\n");
    assert_eq!(made.stages.len(), 2);
}

#[test]
fn label_env_and_expose() {
    let text = "FROM a\nLABEL \"com.example.vendor\"=\"ACME Inc\" multi=\"one \\\ntwo\"\nLABEL k=v\n";
    let labels = config(text).labels;
    assert_eq!(labels["com.example.vendor"], "ACME Inc");
    assert_eq!((labels["multi"].as_str(), labels["k"].as_str()), ("one two", "v"));
    let env = config(
        "FROM a\nENV NAME=\"John Doe\" DOG=Rex\\ The\\ Dog \\\n    CAT=fluffy\nENV OLD a whole line\n",
    )
    .env;
    assert_eq!(env[1..], ["NAME=John Doe", "DOG=Rex The Dog", "CAT=fluffy", "OLD=a whole line"]);
    let ports: Vec<String> =
        config("FROM a\nEXPOSE 80/tcp\nEXPOSE 80/udp\nEXPOSE 90\n").exposed_ports.into_keys().collect();
    assert_eq!(ports, ["80/tcp", "80/udp", "90/tcp"]);
}

#[test]
fn arg_and_its_scope() {
    let spec = BuildSpec::new(".").arg("user", "what");
    let text = "FROM a\nUSER ${user:-some}\nARG user\nUSER $user\n";
    assert_eq!(last(&planned(text, &spec)).config.config.user, "what");
    let first = text.replace("ARG user\nUSER $user\n", "");
    assert_eq!(last(&planned(&first, &spec)).config.config.user, "some", "not before its ARG");
    let env = planned("FROM a\nARG V\nENV V=v1\nRUN echo $V\n", &BuildSpec::new(".").arg("V", "v2"));
    let Op::Run(command) = &last(&env).steps[2].op else { panic!() };
    assert!(command.env.contains(&("V".into(), "v1".into())), "ENV wins");
    let stages = plan("FROM a AS one\nARG X=1\nRUN x\nFROM one\nRUN echo $X\n");
    assert!(argv(&stages).contains(&"echo $X".to_owned()));
}

#[test]
fn arg_and_env_of_one_name() {
    // "Default values", "Using ARG variables".
    let of = |text: &str, args: &[(&str, &str)]| {
        let spec = args.iter().fold(BuildSpec::new("."), |spec, (name, value)| spec.arg(*name, *value));
        ran(&planned(&format!("FROM a\n{text}RUN echo $CONT_IMG_VER\n"), &spec))
    };
    let declared = "ARG user1=someuser buildno=1\n";
    assert_eq!(variable(&of(declared, &[]), "buildno").unwrap(), "1");
    assert_eq!(variable(&of(declared, &[("buildno", "2")]), "buildno").unwrap(), "2");
    assert_eq!(variable(&of("ARG user1\n", &[]), "user1"), None);
    let given = [("CONT_IMG_VER", "v2.0.1")];
    let fixed = "ARG CONT_IMG_VER\nENV CONT_IMG_VER=v1.0.0\n";
    assert_eq!(variable(&of(fixed, &given), "CONT_IMG_VER").unwrap(), "v1.0.0");
    let persisted = "ARG CONT_IMG_VER\nENV CONT_IMG_VER=${CONT_IMG_VER:-v1.0.0}\n";
    assert_eq!(variable(&of(persisted, &given), "CONT_IMG_VER").unwrap(), "v2.0.1");
    assert_eq!(variable(&of(persisted, &[]), "CONT_IMG_VER").unwrap(), "v1.0.0");
    // "Predefined ARGs": known without ARG, and then neither in the history nor a reason to build anew.
    let proxied = [("HTTP_PROXY", "http://user:pass@proxy.example")];
    let quiet = of("", &proxied);
    assert_eq!((variable(&quiet, "HTTP_PROXY"), quiet.quiet_env.len()), (None, 2));
    assert!(variable(&of("ARG HTTP_PROXY\n", &proxied), "HTTP_PROXY").is_some());
    // "Automatic platform ARGs in the global scope".
    let platform = of("ARG TARGETPLATFORM\n", &[]);
    assert!(variable(&platform, "TARGETPLATFORM").unwrap().starts_with("linux/"));
    assert_eq!(variable(&of("", &[]), "TARGETPLATFORM"), None, "only where it is declared");
}

#[test]
fn build_args_that_the_builder_knows() {
    // "BuildKit built-in build args".
    let text = "FROM a\nWORKDIR /src\nRUN --mount=type=cache,target=/c --mount=target=. make\n";
    let of = |name: &str, value: &str| {
        let file = Dockerfile::parse("D", text.as_bytes()).unwrap();
        Graph::new(&file, &BuildSpec::new(".").arg(name, value))
    };
    assert_eq!(ran(&plan(text)).hostname, "buildkitsandbox");
    let named = planned(text, &BuildSpec::new(".").arg("BUILDKIT_SANDBOX_HOSTNAME", "box"));
    assert_eq!(ran(&named).hostname, "box");
    let spaced = planned(text, &BuildSpec::new(".").arg("BUILDKIT_CACHE_MOUNT_NS", "mine"));
    let coracle_build::RunMount::Cache { id, .. } = &ran(&spaced).mounts[0] else { panic!() };
    assert_eq!(id, "mine/c");
    for (name, value) in [
        ("BUILDKIT_SYNTAX", "docker/dockerfile:1"),
        ("BUILDKIT_SYNTAX", "dockerfile.v0"),
        ("BUILDKIT_INLINE_CACHE", "0"),
    ] {
        assert!(of(name, value).unwrap().unused_args().is_empty(), "{name}={value}");
    }
    for (name, value) in [("BUILDKIT_SYNTAX", "example/other"), ("BUILDKIT_INLINE_CACHE", "1")] {
        let error = of(name, value).unwrap_err();
        assert_eq!(error.kind(), coracle_host::Kind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
    // What is only for other front ends is told to be of no use.
    assert_eq!(of("BUILDKIT_MULTI_PLATFORM", "1").unwrap().unused_args(), ["BUILDKIT_MULTI_PLATFORM"]);
}
