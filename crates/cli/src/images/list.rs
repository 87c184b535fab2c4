//! `coracle images`.

use coracle::{Engine, Image};

use super::filter::Filters;
use crate::fail::Done;
use crate::filter;
use crate::list::{self, Listing};
use crate::template::Value;
use crate::units;

/// What an image without a name has in the columns for names.
const NONE: &str = "<none>";

const LISTING: Listing = Listing {
    kind: "*formatter.imageContext",
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    columns: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
          virtual_size: {{.Size}}\n",
};

const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

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
    #[arg(short, long, value_name = "filter", value_parser = filter::pair)]
    filter: Vec<(String, String)>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: list::Flags,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// Lists them, the newest first, each name in a line of its own.
pub(crate) fn list(args: &ListArgs) -> Done {
    let engine = Engine::open_default()?;
    let filters = Filters::parse(&engine, &args.filter, args.repository.as_deref())?;
    let mut images = engine.images()?;
    images.retain(|image| filters.takes(image));
    images.sort_by_key(|image| std::cmp::Reverse(image.created()));
    let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, &filters, args.no_trunc)).collect();
    let columns = if args.digests { WITH_DIGESTS } else { LISTING.columns };
    let listing = Listing { columns, ..LISTING };
    crate::out::text(listing.render(&args.list, &rows)?)?;
    Ok(0)
}

fn rows(image: &Image, filters: &Filters, whole: bool) -> Vec<Value> {
    let pulled = image.registry_digests();
    let mut names = image.names();
    names.retain(|name| filters.names(name));
    if names.is_empty() {
        // What was pulled by its digest has a repository, and no tag.
        let repositories = pulled.iter().filter_map(|name| name.split('@').next());
        names.extend(repositories.map(|name| format!("{name}:{NONE}")));
    }
    if names.is_empty() {
        names.push(format!("{NONE}:{NONE}"));
    }
    let created = image.created().and_then(|time| time.parse().ok());
    let row = |name: &String| {
        let (repository, tag) = split(name);
        // What its registry has it under, or would have.
        let mut digests = pulled.iter().filter_map(|name| name.split_once('@'));
        let digest = digests.find(|(of, _)| *of == repository).map(|(_, digest)| digest.to_owned());
        let fields = [
            ("Containers", "N/A".into()),
            ("CreatedAt", created.map_or_else(|| "N/A".to_owned(), units::date).into()),
            ("CreatedSince", units::ago(image.created().as_deref()).into()),
            ("Digest", digest.unwrap_or_else(|| image.digest()).into()),
            ("ID", units::id(&image.id(), whole).into()),
            ("Repository", repository.into()),
            ("SharedSize", "N/A".into()),
            ("Size", units::size(image.size()).into()),
            ("Tag", tag.into()),
            ("UniqueSize", "N/A".into()),
            ("VirtualSize", units::size(image.size()).into()),
        ];
        list::row(&LISTING, fields, None)
    };
    names.iter().map(row).collect()
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
