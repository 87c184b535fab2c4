//! `coracle images`.

use coracle::{Engine, Image};

use super::filter::Filters;
use crate::fail::Done;
use crate::table::Table;
use crate::units;

/// What an image without a name has in the columns for names.
const NONE: &str = "<none>";

/// List images
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Show all images (there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// A line of the list.
struct Row<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
}

/// Lists them, the newest first, each name in a line of its own.
pub(crate) fn list(args: &ListArgs) -> Done {
    let engine = Engine::open_default()?;
    let filters = Filters::parse(&engine, &args.filter, args.repository.as_deref())?;
    let mut images = engine.images()?;
    images.retain(|image| filters.takes(image));
    images.sort_by_key(|image| std::cmp::Reverse(image.created()));
    let rows = images.iter().flat_map(|image| rows(image, &filters));
    let mut heading = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        heading.insert(2, "DIGEST");
    }
    let mut table = Table::new(&heading);
    let mut ids = String::new();
    for Row { image, repository, tag } in rows {
        let whole = image.id();
        let id = units::id(&whole, args.no_trunc);
        ids += &format!("{id}\n");
        let created = units::ago(image.created().as_deref());
        let size = units::size(image.size());
        if args.digests {
            table.row([repository, tag, image.digest(), id.to_owned(), created, size]);
        } else {
            table.row([repository, tag, id.to_owned(), created, size]);
        }
    }
    if args.quiet {
        crate::out::text(ids)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}

fn rows<'a>(image: &'a Image, filters: &Filters) -> Vec<Row<'a>> {
    let mut names = image.names();
    names.retain(|name| filters.names(name));
    if names.is_empty() {
        names.push(format!("{NONE}:{NONE}"));
    }
    let split = |name: &String| split(name);
    names.iter().map(split).map(|(repository, tag)| Row { image, repository, tag }).collect()
}

/// Repository and tag; the tag is empty where there is none.
pub(super) fn split(name: &str) -> (String, String) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names_are_split_at_the_tag() {
        let own = |repository: &str, tag: &str| (repository.to_owned(), tag.to_owned());
        assert_eq!(split("busybox:1"), own("busybox", "1"));
        assert_eq!(split("localhost:5000/a/b"), own("localhost:5000/a/b", ""));
        assert_eq!(split("localhost:5000/a/b:c"), own("localhost:5000/a/b", "c"));
    }
}
