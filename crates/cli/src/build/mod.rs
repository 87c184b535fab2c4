//! `coracle build`.

mod args;
mod cache;
mod contexts;
mod git;
mod output;
mod plain;
mod progress;
mod source;
mod view;

use std::sync::Arc;

use coracle::{BuildSpec, Built, Engine};

use crate::env;
use crate::fail::{Done, Fail};

pub(crate) use args::Args;
use output::Output;
use progress::Progress;
use source::Source;

/// Builds, telling of each step on standard error; the image's id comes last, with -q on standard output.
pub(crate) fn run(args: &Args) -> Done {
    // Where standard input is asked for twice is said before it is read.
    let source = Source::of(args)?;
    let outputs: Vec<Output> =
        args.output.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>()?;
    let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
    if to_stdout > 1 {
        return Err(Fail::new(1, "build -o: standard output can take one of them only"));
    }
    let (cache_from, cache_to) = args.caches()?;
    let engine = Engine::open_default()?;
    let (context, spec) = source.open(&engine)?;
    let spec = args::spec(args, spec, &env::own)?.git(Arc::new(git::ByProgram));
    let spec = spec.proxies(env::proxies(&env::own));
    let (contexts, spec) = contexts::add(&engine, &args.build_context, spec)?;
    if args.checks() {
        return check(&engine, &spec);
    }
    cache_from.iter().try_for_each(|place| place.import(&engine))?;
    let mut progress = Progress::new(if args.quiet { "quiet" } else { &args.progress });
    let built = engine.build(&spec, |event| progress.tell(event));
    drop((context, contexts));
    let built = built.inspect_err(|_| progress.fail())?;
    let id = built.image.id();
    cache_to.iter().try_for_each(|place| place.export(&engine, &built))?;
    for output in &outputs {
        output.write(&engine, &built.image, &args.tag)?;
    }
    if let Some(path) = &args.iidfile {
        write(path, id.as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, metadata(args, &built).to_string().as_bytes())?;
    }
    progress.finish(&id, &given(args, &built));
    if to_stdout > 0 {
        return Ok(0);
    }
    if args.explain {
        crate::out::line(&built.explanation)?;
    }
    if progress.is_quiet() {
        crate::out::line(&id)?;
    }
    Ok(0)
}

/// Prints what could be better; whether there is any of it is the status, as docker has it.
fn check(engine: &Engine, spec: &BuildSpec) -> Done {
    let lints = engine.check(spec)?.lints;
    for lint in &lints {
        crate::out::line(format_args!("WARNING: {}\n{}\n", lint.rule, lint.diagnostic))?;
    }
    match lints.len() {
        0 => crate::out::line("Check complete, no warnings found.")?,
        1 => crate::out::line("Check complete, 1 warning has been found!")?,
        n => crate::out::line(format_args!("Check complete, {n} warnings have been found!"))?,
    }
    Ok(u8::from(!lints.is_empty()))
}

fn write(path: &str, bytes: &[u8]) -> Result<(), Fail> {
    std::fs::write(path, bytes).map_err(|error| Fail::new(1, format!("write({path:?}): {error}")))
}

/// The names that the image was given.
fn given(args: &Args, built: &Built) -> Vec<String> {
    let mut names = built.image.names();
    names.retain(|name| args.tag.iter().any(|tag| name == tag || *name == format!("{tag}:latest")));
    names
}

/// By docker's names.
fn metadata(args: &Args, built: &Built) -> serde_json::Value {
    let mut metadata = serde_json::Map::new();
    metadata.insert("containerimage.config.digest".into(), built.image.id().into());
    if !args.tag.is_empty() {
        metadata.insert("image.name".into(), given(args, built).join(",").into());
    }
    metadata.into()
}
