//! `coracle images`, `rmi`, `import` and `tag`.

use std::io::Read;

use coracle::{Engine, Image, Kind};

use crate::each::each_printing;
use crate::fail::{Done, Fail};
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
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// Remove one or more images
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Import the contents from a tarball to create a filesystem image
#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// A tar file, plain or compressed by gzip or zstd; - for standard input
    #[arg(value_name = "file|-")]
    file: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(clap::Args)]
pub(crate) struct TagArgs {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
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
    let mut images = engine.images()?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created()));
    let mut rows: Vec<Row<'_>> = images.iter().flat_map(rows).collect();
    if let Some(wanted) = &args.repository {
        let (repository, tag) = split(wanted);
        rows.retain(|row| row.repository == repository && (tag.is_empty() || row.tag == tag));
    }
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let mut ids = String::new();
    for Row { image, repository, tag } in rows {
        let whole = image.id();
        let id = units::id(&whole, args.no_trunc);
        ids += &format!("{id}\n");
        let created = units::ago(image.created().as_deref());
        table.row([repository, tag, id.to_owned(), created, units::size(image.size())]);
    }
    if args.quiet {
        crate::out::text(ids)?
    } else {
        crate::out::text(table)?
    }
    Ok(0)
}

fn rows(image: &Image) -> Vec<Row<'_>> {
    let mut names = image.names();
    if names.is_empty() {
        names.push(format!("{NONE}:{NONE}"));
    }
    let split = |name: &String| split(name);
    names.iter().map(split).map(|(repository, tag)| Row { image, repository, tag }).collect()
}

/// Repository and tag; the tag is empty where there is none.
fn split(name: &str) -> (String, String) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), String::new()),
    }
}

/// Removes names, and images with their last one.
pub(crate) fn remove(args: &RemoveArgs) -> Done {
    let engine = Engine::open_default()?;
    each_printing(&args.images, |name| {
        let Some(image) = engine.image(name)? else {
            let fail = Fail::missing("image", name);
            return Err(if args.force { fail.with(0) } else { fail });
        };
        let mut lines = Vec::new();
        let mut remove = |name: &str| {
            engine.remove_image(name).map(|removed| {
                lines.extend(removed.untagged.iter().map(|name| format!("Untagged: {name}")));
                lines.extend(removed.deleted.iter().map(|id| format!("Deleted: {id}")));
            })
        };
        match remove(name) {
            // An id with names in several repositories.
            Err(error) if error.kind() == Kind::InUse && args.force => {
                image.names().iter().try_for_each(|name| remove(name))?;
            }
            removed => removed?,
        }
        Ok(lines.join("\n"))
    })
}

/// Makes an image of a root file system and prints its id.
pub(crate) fn import(args: &ImportArgs) -> Done {
    let engine = Engine::open_default()?;
    let tar: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        url if url.contains("://") => {
            return Err(Fail::new(1, format!("import {url}: only files and - are supported yet")));
        }
        path => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| Fail::new(1, format!("open({path:?}): {error}")))?)
        }
    };
    let image = engine.import(tar, args.name.as_deref())?;
    crate::out::line(image.id())?;
    Ok(0)
}

/// Gives an image one more name.
pub(crate) fn tag(args: &TagArgs) -> Done {
    let engine = Engine::open_default()?;
    let image = engine.image(&args.source)?.ok_or_else(|| Fail::missing("image", &args.source))?;
    engine.tag(&image, &args.target)?;
    Ok(0)
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
