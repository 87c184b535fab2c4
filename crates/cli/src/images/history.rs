//! `coracle history`.

use coracle::Engine;

use crate::fail::Done;
use crate::list::{self, Listing};
use crate::units;

/// Characters of a command in the table.
const COMMAND: usize = 45;
/// What steps below the image itself have for an id.
const MISSING: &str = "<missing>";

const LISTING: Listing = Listing {
    kind: "*image.historyContext",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    columns: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: "image: {{.ID}}\ncreated_by: {{.CreatedBy}}\nsize: {{.Size}}\n",
};

const WITH_DATES: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

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
    #[command(flatten)]
    list: list::Flags,
    image: String,
}

/// Shows how it was made, the last step first.
pub(crate) fn history(args: &HistoryArgs) -> Done {
    let image = super::find(&Engine::open_default()?, &args.image)?;
    let whole = image.id();
    let mut rows = Vec::new();
    for (number, step) in image.history()?.into_iter().rev().enumerate() {
        let id = if number == 0 { units::id(&whole, args.no_trunc) } else { MISSING };
        let by = step.created_by.replace('\t', " ");
        let by = if args.no_trunc { by } else { units::ellipsis(&by, COMMAND) };
        let size = if args.human { units::size(step.size) } else { step.size.to_string() };
        let at = units::seconds(step.created.as_deref());
        let since = if args.human { units::ago(step.created.as_deref()) } else { at.clone() };
        let fields = [
            ("Comment", step.comment.into()),
            ("CreatedAt", at.into()),
            ("CreatedBy", by.into()),
            ("CreatedSince", since.into()),
            ("ID", id.into()),
            ("Size", size.into()),
        ];
        rows.push(list::row(&LISTING, fields, None));
    }
    let columns = if args.human { LISTING.columns } else { WITH_DATES };
    crate::out::text(Listing { columns, ..LISTING }.render(&args.list, &rows)?)?;
    Ok(0)
}
