//! `coracle history`.

use coracle::Engine;

use crate::fail::Done;
use crate::table::Table;
use crate::units;

/// Characters of a command in the table.
const COMMAND: usize = 45;
/// What steps below the image itself have for an id.
const MISSING: &str = "<missing>";

/// Show the history of an image
#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

/// Shows how it was made, the last step first.
pub(crate) fn history(args: &HistoryArgs) -> Done {
    let image = super::find(&Engine::open_default()?, &args.image)?;
    let whole = image.id();
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    let mut ids = String::new();
    for (number, step) in image.history()?.into_iter().rev().enumerate() {
        let id = if number == 0 { units::id(&whole, args.no_trunc) } else { MISSING };
        ids += &format!("{id}\n");
        let by = step.created_by.replace('\t', " ");
        let by = if args.no_trunc { by } else { units::ellipsis(&by, COMMAND) };
        let (created, size) = if args.human {
            (units::ago(step.created.as_deref()), units::size(step.size))
        } else {
            (step.created.unwrap_or_default(), step.size.to_string())
        };
        table.row([id.to_owned(), created, by, size, step.comment]);
    }
    if args.quiet {
        crate::out::text(ids)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}
