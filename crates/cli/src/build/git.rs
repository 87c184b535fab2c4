//! Git repositories, fetched by the program git(1): the library runs no programs.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use coracle::{BuildError, Cancel, Git, GitSource, Kind};

/// Runs git as BuildKit does: without anybody's configuration, and without asking anybody anything.
pub(super) struct ByProgram;

type Result<T> = std::result::Result<T, BuildError>;

impl Git for ByProgram {
    fn checkout(&self, source: &GitSource, into: &Path, _: Option<&Cancel>) -> Result<String> {
        let reference = source.reference.as_deref().unwrap_or("HEAD");
        if reference.starts_with('-') {
            return Err(BuildError::new(
                Kind::Invalid,
                format!("`{source}`: a reference can't begin with `-`"),
            ));
        }
        let git = |args: &[&str]| run(source, into, args);
        git(&["init", "--quiet"])?;
        let shallow = git(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", &source.url, reference]);
        let commit = match shallow {
            Ok(_) => "FETCH_HEAD".to_owned(),
            // A server may give no commit by its id, and one that is only files nothing shallow: then everything.
            Err(error) => {
                let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", "HEAD"];
                let fetch = ["fetch", "--quiet", "--", &source.url].into_iter().chain(all);
                git(&fetch.collect::<Vec<_>>()).map_err(|_| error)?;
                found(&git, source, reference)?
            }
        };
        git(&["checkout", "--quiet", "--detach", &commit])?;
        if into.join(".gitmodules").symlink_metadata().is_ok_and(|file| file.is_file()) {
            // Their URLs may be relative to this one.
            git(&["remote", "add", "origin", &source.url])?;
            git(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
            git(&["remote", "remove", "origin"])?;
        }
        let id = git(&["rev-parse", "--verify", "HEAD^{commit}"])?;
        Ok(id.trim().to_owned())
    }
}

/// A commit by what may be a branch, a tag, or how its id begins.
fn found(git: &dyn Fn(&[&str]) -> Result<String>, source: &GitSource, reference: &str) -> Result<String> {
    let names = match reference {
        "HEAD" => vec!["FETCH_HEAD".to_owned()],
        name => vec![format!("refs/remotes/origin/{name}"), format!("refs/tags/{name}"), name.to_owned()],
    };
    let mut commits = names.iter().filter_map(|name| {
        git(&["rev-parse", "--quiet", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]).ok()
    });
    let commit = commits.next().ok_or_else(|| {
        BuildError::new(Kind::NotFound, format!("`{source}`: the repository has no `{reference}`"))
    })?;
    Ok(commit.trim().to_owned())
}

fn run(source: &GitSource, into: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    // What it would take from elsewhere: other repositories, other configuration.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    command.envs([
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        ("LC_ALL", "C"),
    ]);
    // A submodule reaches nothing of this machine.
    command.args(["-c", "protocol.allow=never"]);
    for protocol in ["http", "https", "git", "ssh"] {
        command.args(["-c", &format!("protocol.{protocol}.allow=always")]);
    }
    command.arg("-C").arg(into).args(args).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        let what =
            format!("`{source}`: repositories are fetched by the program git: execve(\"git\"): {error}");
        BuildError::new(Kind::NotFound, what)
    })?;
    said(source, args, output)
}

fn said(source: &GitSource, args: &[&str], output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let without = GitSource::parse(&source.url).to_string();
    let words = String::from_utf8_lossy(&output.stderr).trim().replace(&source.url, &without);
    // git tells of a URL without its user, too.
    let secret =
        source.url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
    let words = secret.map_or(words.clone(), |user| words.replace(user, "xxxxx"));
    let words = words.lines().collect::<Vec<_>>().join("; ");
    let verb = args.first().unwrap_or(&"");
    Err(BuildError::new(Kind::Failed, format!("`{source}`: git {verb}: {words}")))
}
