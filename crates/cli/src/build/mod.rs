//! `coracle build`.

mod args;
mod cache;
mod contexts;
mod git;
mod output;
mod plain;
mod progress;
mod pulling;
mod source;
mod view;

use std::sync::Arc;

use coracle::{BuildSpec, Engine, Image};
use serde_json::{Value, json};

use crate::fail::{Done, Fail};
use crate::{env, registry};

pub(crate) use args::Args;
use output::Outputs;
use progress::Progress;
use source::Source;

/// Builds, telling of each step on standard error; the image's id comes last, with -q on standard output.
pub(crate) fn run(args: &Args) -> Done {
    // Where standard input is asked for twice is said before it is read.
    let source = Source::of(args)?;
    let outputs = Outputs::parse(&args.output, args.load, &args.tag)?;
    let (cache_from, cache_to) = args.caches()?;
    let engine = Engine::open_default_with(&registry::engine_options())?;
    let (context, spec) = source.open(&engine)?;
    let spec = args::spec(args, spec, &env::own)?.git(Arc::new(git::ByProgram));
    let spec = outputs.spec(spec.proxies(env::proxies(&env::own)));
    let (contexts, spec) = contexts::add(&engine, &args.build_context, spec)?;
    if args.checks() {
        return check(&engine, &spec);
    }
    let mut progress = Progress::new(if args.quiet { "quiet" } else { &args.progress });
    let mut caches = Vec::new();
    for place in &cache_from {
        caches.extend(place.import(&engine, &mut progress)?);
    }
    let built = engine.build_from(&spec, &caches, |event| progress.tell(event));
    drop((context, contexts));
    let built = built.inspect_err(|_| progress.fail())?;
    let id = if outputs.is_image() { built.image.id() } else { String::new() };
    cache_to.iter().try_for_each(|place| place.export(&engine, &built))?;
    let manifest = outputs.write(&engine, &built.image)?;
    if let Some(path) = args.iidfile.as_ref().filter(|_| outputs.is_image()) {
        write(path, id.as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, metadata(&outputs, &built.image, &manifest).to_string().as_bytes())?;
    }
    progress.finish(&outputs.told(&built.image));
    if outputs.is_stdout() {
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

/// By docker's names; of files alone there is nothing to say.
fn metadata(outputs: &Outputs, image: &Image, (digest, size): &(String, u64)) -> Value {
    if !outputs.is_image() {
        return json!({});
    }
    let mut metadata = json!({
        "containerimage.config.digest": image.id(),
        "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
        },
        "containerimage.digest": digest,
    });
    let names = outputs.names();
    if !names.is_empty() {
        metadata["image.name"] = names.join(",").into();
    }
    metadata
}
