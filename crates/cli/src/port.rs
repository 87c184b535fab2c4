//! `coracle port`.

use coracle::Engine;

use crate::fail::{Done, Fail};

/// List port mappings or a specific mapping for the container
#[derive(clap::Args)]
#[command(override_usage = "coracle port CONTAINER [PRIVATE_PORT[/PROTO]]")]
pub(crate) struct Args {
    /// Which container
    container: String,
    /// Only this port of it
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

/// Prints them, a line each.
pub(crate) fn run(args: &Args) -> Done {
    let engine = Engine::open_default()?;
    let container =
        engine.find(&args.container)?.ok_or_else(|| Fail::missing("container", &args.container))?;
    let published = container.published()?;
    let Some(wanted) = &args.port else {
        let lines = published.iter().map(|port| format!("{} -> {}\n", port.container(), port.host()));
        crate::out::text(lines.collect::<String>())?;
        return Ok(0);
    };
    let wanted = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
    let found: Vec<_> = published.iter().filter(|port| port.container().to_string() == wanted).collect();
    if found.is_empty() {
        let text = format!("Error: No public port '{wanted}' published for {}", args.container);
        return Err(Fail::new(1, text));
    }
    let lines = found.iter().map(|port| format!("{}\n", port.host()));
    crate::out::text(lines.collect::<String>())?;
    Ok(0)
}
