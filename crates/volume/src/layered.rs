//! A volume over the frozen ones that it began as: an overlay.

use coracle_host::{Dir, Error, Kind, Mount, Overlay, Result};

use crate::Volume;
use crate::record::Record;
use crate::volume::{DATA, RECORD, UPPER, WORK};

/// How many frozen volumes another one may lie on. overlayfs can do 500; a look-up that finds nothing asks all of them.
const DEPTH: usize = 64;

/// What a volume that begins as `base` lies on: the directories of files, the top one first.
pub(crate) fn stack(volumes: &Dir, base: &Volume) -> Result<Vec<Dir>> {
    let mut stack = Vec::new();
    let mut next = Some(base.name().to_owned());
    while let Some(name) = next {
        if stack.len() > DEPTH + 1 {
            let text = format!("{:?}: there are too many below it", volumes.path_of(base.name()));
            return Err(Error::new(Kind::Corrupt, text));
        }
        let dir = volumes.dir(&name)?;
        let corrupt = |why| Error::new(Kind::Corrupt, format!("{:?}: {why}", dir.path_of(RECORD)));
        let record = Record::parse(&dir.read(RECORD)?, &name).map_err(corrupt)?;
        stack.push(dir.dir(if record.base.is_some() { UPPER } else { DATA })?);
        next = record.base;
    }
    Ok(stack)
}

/// Fills the directory of a new volume over `stack`. Its root looks like that of the one below; what makes that one an
/// overlay's is not taken along.
pub(crate) fn begin(stack: &[Dir], dir: &Dir) -> Result<()> {
    if stack.len() > DEPTH {
        let text = format!("it would lie on more than {DEPTH} volumes: clone one that is a copy");
        return Err(Error::new(Kind::Exhausted, text));
    }
    let upper = dir.make_new(UPPER, 0o755)?;
    dir.make_new(WORK, 0o700)?;
    stack.first().map_or(Ok(()), |below| below.dress(&upper))
}

/// What the kernel leaves in its `work/work/` of an overlay without syncs, so that nobody takes it for whole after a power cut.
const UNSYNCED: &str = "incompat";

/// All that a volume shows. The caller is its only borrower, unless it is frozen.
pub(crate) fn mount(volumes: &Dir, volume: &Volume) -> Result<Mount> {
    let mut lower = stack(volumes, volume)?;
    let frozen = volume.dir().has(crate::volume::FROZEN)?;
    if frozen {
        // Its own files are the top layer, and nobody writes.
        return Mount::overlay(&Overlay { lower: &lower, upper: None, volatile: false, context: None });
    }
    let upper = lower.remove(0);
    let work = volume.dir().dir(WORK)?;
    // One that need not survive a power cut was not cut off either where it is found again.
    let volatile = volume.is_volatile();
    if volatile
        && let Some(made) = work.dir_if_there(WORK)?
        && made.has(UNSYNCED)?
    {
        made.remove_tree(UNSYNCED)?;
    }
    Mount::overlay(&Overlay { lower: &lower, upper: Some((&upper, &work)), volatile, context: None })
}
