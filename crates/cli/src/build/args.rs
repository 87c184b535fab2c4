//! The flags of `coracle build`, and the spec that they are.

use std::net::IpAddr;

use coracle::{Allow, BuildSpec, HostAddress, Pull, StepNetwork};

use super::cache::Place;
use crate::env;
use crate::fail::Fail;
use crate::quantity::bytes;
use crate::run::limits::Ulimit;

/// Build an image from a Dockerfile
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "HOST:IP")]
    pub(super) add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,
    /// Add annotation to the image
    #[arg(long, value_name = "[manifest:]KEY=VALUE")]
    pub(super) annotation: Vec<String>,
    /// Attestation parameters (only disabled ones)
    #[arg(long, value_name = "type=TYPE,disabled=true")]
    attest: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "NAME=PATH")]
    pub(super) build_context: Vec<String>,
    /// The builder: there is one
    #[arg(long, default_value = "default")]
    builder: String,
    /// External cache sources (format: "type=local,src=path", "type=registry,ref=name" or a name)
    #[arg(long, value_name = "SOURCE")]
    cache_from: Vec<String>,
    /// Cache export destinations (format: "type=local,dest=path[,mode=max]" or "type=registry,ref=name[,mode=max]")
    #[arg(long, value_name = "DEST")]
    cache_to: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    cgroup_parent: String,
    /// Compress the context, which travels nowhere here
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    compress: Option<bool>,
    /// Set method for evaluating the build (build, check, lint)
    #[arg(long, default_value = "build", value_name = "METHOD")]
    call: String,
    /// Check the build and say what could be better; nothing is built
    #[arg(long)]
    pub(super) check: bool,
    /// Skip image verification, which there is none of
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Print the Dockerfile line by line: what was cached, what was built and why, and what it cost
    #[arg(long)]
    pub(super) explain: bool,
    /// Name of the Dockerfile (default: "PATH/Dockerfile"); - for standard input
    #[arg(short, long)]
    pub(super) file: Option<String>,
    /// Always remove intermediate containers, which there are none of afterwards
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<bool>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<String>,
    /// Container isolation technology: there is one
    #[arg(long, hide = true, default_value = "default")]
    isolation: String,
    /// Set metadata for an image
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(super) label: Vec<String>,
    /// Keep the image in this engine's store, as it always is
    #[arg(long)]
    pub(super) load: bool,
    /// Write build result metadata to a file
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<String>,
    /// Set the networking mode for the "RUN" instructions during build (default, none, host)
    #[arg(long, default_value = "default", value_name = "MODE")]
    pub(super) network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,
    /// Output destination (format: "type=local,dest=path"): a directory, - for a tar, or local, tar, oci, docker, image
    #[arg(short, long, value_name = "DEST")]
    pub(super) output: Vec<String>,
    /// Set target platform for the build: this machine's
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Set type of progress output (auto, plain, tty, quiet, json, rawjson)
    #[arg(long, default_value = "auto")]
    pub(super) progress: String,
    /// Attestation of where the image is from (only false)
    #[arg(long, value_name = "BOOL", num_args = 1)]
    provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pull: Option<String>,
    /// Push the image to a registry (only false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    push: Option<String>,
    /// Remove intermediate containers after a successful build, as always
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Attestation of what is in the image (only false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "ID[,SRC|ENV]")]
    pub(super) secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    shm_size: Option<u64>,
    /// SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(super) ssh: Vec<String>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(super) tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = Ulimit::parse)]
    ulimit: Vec<Ulimit>,
    /// A directory; - for a Dockerfile or a tar archive on standard input
    #[arg(value_name = "PATH | -")]
    pub(super) path: String,
}

/// Ways to show how a build goes on.
const PROGRESS: [&str; 6] = ["auto", "plain", "tty", "quiet", "json", "rawjson"];

impl Args {
    /// Whether it is only to be checked.
    pub(super) fn checks(&self) -> bool {
        self.check || ["check", "lint"].contains(&self.call.as_str())
    }

    /// The build argument that BuildKit has for it.
    pub(super) fn keeps_git_dir(&self) -> bool {
        let value = |arg: &String| Some(arg.strip_prefix("BUILDKIT_CONTEXT_KEEP_GIT_DIR=")?.to_owned());
        self.build_arg
            .iter()
            .filter_map(value)
            .next_back()
            .is_some_and(|v| ["1", "true"].contains(&v.as_str()))
    }

    /// What is read before and written after.
    pub(super) fn caches(&self) -> Result<(Vec<Place>, Vec<Place>), Fail> {
        let from = self.cache_from.iter().map(|text| Place::from(text)).collect::<Result<_, _>>()?;
        Ok((from, self.cache_to.iter().map(|text| Place::to(text)).collect::<Result<_, _>>()?))
    }

    /// Says what docker has and this program does not, before anything is read.
    fn refused(&self) -> Result<(), Fail> {
        let refuse = |flag: &str, why: &str| Err(Fail::new(1, format!("build --{flag}: {why}")));
        if let [_, second, ..] = self.platform.as_slice() {
            return refuse(&format!("platform {second}"), "an image is for one platform, this machine's");
        }
        for attest in &self.attest {
            if !attest.split(',').any(|part| part == "disabled=true") {
                return refuse(&format!("attest {attest}"), "there are no attestations yet");
            }
        }
        match self.call.as_str() {
            "build" | "check" | "lint" => {}
            other => return refuse(&format!("call {other}"), "only build, check and lint"),
        }
        if !PROGRESS.contains(&self.progress.as_str()) {
            let what = format!("it is one of {}", PROGRESS.join(", "));
            return refuse(&format!("progress {}", self.progress), &what);
        }
        if !["default", ""].contains(&self.isolation.as_str()) {
            return refuse(&format!("isolation {}", self.isolation), "only default");
        }
        if self.disable_content_trust == Some(false) {
            return refuse("disable-content-trust=false", "there is no content trust yet");
        }
        // There is nothing to do for them, whatever they say.
        let _ = (self.compress, self.rm, self.force_rm);
        match self.builder.as_str() {
            "default" | "" => {}
            other => return refuse(&format!("builder {other}"), "there is one builder, `default`"),
        }
        match () {
            () if on(&self.push) => refuse("push", "images can't be pushed yet"),
            () if on(&self.provenance) => refuse("provenance", "there are no attestations yet"),
            () if on(&self.sbom) => refuse("sbom", "there are no attestations yet"),
            () => Ok(()),
        }
    }
}

/// Everything that the flags say, on top of the spec that the context came to.
pub(super) fn spec(args: &Args, mut spec: BuildSpec, lookup: env::Lookup<'_>) -> Result<BuildSpec, Fail> {
    args.refused()?;
    if let Some(platform) = args.platform.first().filter(|platform| *platform != "local") {
        spec = spec.platform(platform);
    }
    for text in &args.annotation {
        let bad = |what: &str| Fail::new(1, format!("build --annotation {text}: {what}"));
        let (key, value) =
            text.split_once('=').filter(|(k, _)| !k.is_empty()).ok_or_else(|| bad("want key=value"))?;
        let key = match key.split_once(':') {
            Some(("manifest", key)) => key,
            Some((kind @ ("index" | "index-descriptor" | "manifest-descriptor"), _)) => {
                return Err(bad(&format!(
                    "`{kind}:` annotates what an image here has not, only its manifest"
                )));
            }
            _ => key,
        };
        spec = spec.annotation(key, value);
    }
    for text in &args.build_arg {
        if text.split('=').next() == Some("") {
            return Err(Fail::new(125, format!("build --build-arg {text:?}: there is no name in it")));
        }
        // docker's way: a name that is set nowhere keeps the Dockerfile's default.
        let pair = text.split_once('=').map(|(name, value)| (name, value.to_owned()));
        if let Some((name, value)) = pair.or_else(|| lookup(text).map(|value| (text.as_str(), value))) {
            spec = spec.arg(name, value);
        }
    }
    for (key, value) in args.label.iter().map(|text| env::label(text)) {
        if key.is_empty() {
            return Err(Fail::new(125, format!("build --label \"={value}\": there is no name in it")));
        }
        spec = spec.label(key, value);
    }
    if let Some(target) = &args.target {
        spec = spec.target(target);
    }
    for text in &args.add_host {
        let (name, address) = host(text)?;
        spec = spec.host(name, address);
    }
    for text in &args.allow {
        spec = spec.allow(match text.as_str() {
            "network.host" => Allow::HostNetwork,
            "security.insecure" => Allow::Insecure,
            other => {
                let what = format!("build --allow: `{other}` is neither network.host nor security.insecure");
                return Err(Fail::new(1, what));
            }
        });
    }
    if !args.cgroup_parent.is_empty() {
        spec = spec.cgroup_parent(&args.cgroup_parent);
    }
    spec = args.shm_size.into_iter().fold(spec, BuildSpec::shm_size);
    let limits = Ulimit::limits(&args.ulimit);
    spec = limits.into_iter().fold(spec, |spec, (name, soft, hard)| spec.rlimit(name, soft, hard));
    spec = spec.network(match args.network.as_str() {
        "default" => StepNetwork::Default,
        "none" => StepNetwork::None,
        "host" => StepNetwork::Host,
        other => return Err(Fail::new(1, format!("build --network {other}: only default, none and host"))),
    });
    for text in &args.secret {
        spec = secret(spec, text, lookup)?;
    }
    for text in &args.ssh {
        spec = ssh(spec, text, lookup)?;
    }
    let argument = |name: &str| {
        let mut given = args.build_arg.iter().filter_map(|arg| arg.split_once('='));
        given.rfind(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
    };
    if let Some(epoch) = env::epoch(&|name| argument(name).or_else(|| lookup(name)))? {
        spec = spec.source_date_epoch(epoch);
    }
    spec = args.no_cache_filter.iter().fold(spec, BuildSpec::no_cache_stage);
    let pull = if on(&args.pull) { Pull::Always } else { Pull::Missing };
    Ok(spec.no_cache(args.no_cache).pull(pull))
}

/// Whether a flag that takes a word is on.
fn on(value: &Option<String>) -> bool {
    value.as_deref().is_some_and(|v| !["false", "0"].contains(&v))
}

/// `name:ip`, also `name=ip`, `name:[ip]` and `name:host-gateway`.
fn host(text: &str) -> Result<(&str, HostAddress), Fail> {
    let bad = || Fail::new(1, format!("build --add-host {text}: want name:address"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let address = match address {
        "host-gateway" => HostAddress::Gateway,
        ip => HostAddress::Ip(ip.parse::<IpAddr>().map_err(|_| bad())?),
    };
    if name.is_empty() { Err(bad()) } else { Ok((name, address)) }
}

/// `id=name[,type=file|env][,src=path][,env=NAME]`; where only the id is given it is a variable's or a file's name.
fn secret(spec: BuildSpec, text: &str, lookup: env::Lookup<'_>) -> Result<BuildSpec, Fail> {
    let bad = |what: &str| Fail::new(1, format!("build --secret: {what}"));
    let (mut id, mut kind, mut src, mut var) = (None, None, None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| bad(&format!("`{part}`: want key=value")))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "type" if ["file", "env"].contains(&value) => kind = Some(value),
            "src" | "source" => src = Some(value),
            "env" => var = Some(value),
            // The value itself may be in a part that was mistyped.
            key => return Err(bad(&format!("`{key}` is not known here, or not with this value"))),
        }
    }
    let id = id.or(var).ok_or_else(|| bad("an `id` is missing"))?;
    if kind == Some("env") && var.is_none() {
        var = src.take().or(Some(id));
    }
    if src.is_none() && var.is_none() {
        if kind.is_none() && lookup(id).is_some() {
            var = Some(id);
        } else {
            src = Some(id);
        }
    }
    match (src, var) {
        (Some(path), _) => {
            if !std::path::Path::new(path).is_file() {
                return Err(bad(&format!("{path:?} of `{id}` is no file")));
            }
            Ok(spec.secret_file(id, path))
        }
        (None, Some(name)) => {
            let value =
                lookup(name).ok_or_else(|| bad(&format!("the variable `{name}` of `{id}` is not set")))?;
            Ok(spec.secret(id, value))
        }
        (None, None) => Err(bad("neither a file nor a variable")),
    }
}

/// `default`, `id`, or `id=socket`.
fn ssh(spec: BuildSpec, text: &str, lookup: env::Lookup<'_>) -> Result<BuildSpec, Fail> {
    match text.split_once('=') {
        Some((_, sockets)) if sockets.contains(',') => Err(Fail::new(
            1,
            format!("build --ssh {text}: one socket of an agent, keys are not supported yet"),
        )),
        Some((_, socket)) if !std::path::Path::new(socket).exists() => {
            Err(Fail::new(1, format!("build --ssh {text}: there is no {socket:?}")))
        }
        Some((id, socket)) => Ok(spec.ssh(id, socket)),
        None => {
            let socket = lookup("SSH_AUTH_SOCK");
            let none = || Fail::new(1, format!("build --ssh {text}: SSH_AUTH_SOCK is not set"));
            Ok(spec.ssh(text, socket.filter(|socket| !socket.is_empty()).ok_or_else(none)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use crate::cli::tests::parsed;

    fn specified(line: &str) -> Result<String, Fail> {
        let Ok(Command::Build(args)) = parsed(line) else { panic!("{line}: refused") };
        let lookup = |name: &str| match name {
            "SET" => Some("1".to_owned()),
            "SSH_AUTH_SOCK" => Some("/agent".to_owned()),
            _ => None,
        };
        spec(&args, BuildSpec::new("."), &lookup).map(|spec| format!("{spec:?}"))
    }

    #[test]
    fn a_command_line_is_a_spec() {
        let here = || BuildSpec::new(".").network(StepNetwork::Default).pull(Pull::Missing);
        let ip = HostAddress::Ip([10, 1, 2, 3].into());
        let table = [
            ("build .", here()),
            ("build --target t .", here().target("t")),
            (
                "build --build-arg A=1 --build-arg SET --build-arg UNSET .",
                here().arg("A", "1").arg("SET", "1"),
            ),
            (
                "build --build-arg SOURCE_DATE_EPOCH=7 .",
                here().arg("SOURCE_DATE_EPOCH", "7").source_date_epoch(7),
            ),
            ("build --label a=b --no-cache .", here().label("a", "b").no_cache(true)),
            ("build --no-cache-filter a,b .", here().no_cache_stage("a").no_cache_stage("b")),
            (
                "build --add-host h:10.1.2.3 --add-host g=host-gateway .",
                here().host("h", ip).host("g", HostAddress::Gateway),
            ),
            ("build --add-host h:[::1] .", here().host("h", HostAddress::Ip("::1".parse().unwrap()))),
            (
                "build --shm-size 1m --ulimit nofile=5:9 --ulimit nofile=6 --ulimit core=-1 .",
                here().shm_size(1 << 20).rlimit("nofile", 6, 6).rlimit("core", u64::MAX, u64::MAX),
            ),
            ("build --rm --force-rm=false --compress --disable-content-trust --isolation default .", here()),
            ("build --network host .", here().network(StepNetwork::Host)),
            ("build --allow security.insecure .", here().allow(Allow::Insecure)),
            ("build --platform linux/mips .", here().platform("linux/mips")),
            (
                "build --annotation a=b --annotation manifest:c=d .",
                here().annotation("a", "b").annotation("c", "d"),
            ),
            ("build --pull=false --push=false --provenance=false --sbom=false --call build .", here()),
            ("build --pull .", here().pull(Pull::Always)),
            ("build --pull=true --pull=0 .", here()),
            ("build --secret id=a,env=SET --secret id=SET .", here().secret("a", "1").secret("SET", "1")),
            ("build --secret type=env,id=SET .", here().secret("SET", "1")),
            ("build --secret id=h,src=/etc/passwd .", here().secret_file("h", "/etc/passwd")),
            ("build --ssh default --ssh x=/dev .", here().ssh("default", "/agent").ssh("x", "/dev")),
        ];
        for (line, spec) in table {
            assert_eq!(specified(line).unwrap(), format!("{spec:?}"), "{line}");
        }
    }

    #[test]
    fn refusals_name_the_flag_and_no_value_of_a_secret() {
        for (line, words) in [
            ("build --progress bogus .", "--progress bogus: it is one of auto, plain"),
            ("build --add-host h .", "--add-host h: want name:address"),
            ("build --add-host h:x .", "--add-host h:x"),
            ("build --allow all .", "`all` is neither"),
            ("build --push .", "--push: images can't be pushed"),
            ("build --isolation hyperv .", "--isolation hyperv: "),
            ("build --disable-content-trust=false .", "--disable-content-trust=false: "),
            ("build --platform linux/amd64,linux/arm64 .", "--platform linux/arm64: "),
            ("build --provenance mode=max .", "--provenance: "),
            ("build --sbom .", "--sbom: "),
            ("build --attest type=sbom .", "--attest type=sbom: "),
            ("build --builder other .", "--builder other: "),
            ("build --call outline .", "--call outline: "),
            ("build --annotation x .", "want key=value"),
            ("build --annotation index:x=y .", "`index:` "),
            ("build --network bridge .", "only default, none and host"),
            ("build --secret src=/x .", "an `id` is missing"),
            ("build --secret id=a,src=/nosuch .", "\"/nosuch\" of `a` is no file"),
            ("build --secret id=a,env=UNSET .", "`UNSET` of `a` is not set"),
            ("build --ssh a=/x,/y .", "keys are not supported yet"),
            ("build --ssh a=/nosuch .", "there is no \"/nosuch\""),
            ("build --build-arg =x .", "there is no name in it"),
            ("build --label =x .", "there is no name in it"),
        ] {
            let error = specified(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
        let error = specified("build --secret id=a,value=hunter2 .").unwrap_err().to_string();
        assert!(error.contains("`value`") && !error.contains("hunter2"), "{error}");
    }
}
