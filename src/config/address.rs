//! Where a sidecar with certain settings is asked how it is.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use figment::Figment;

use super::file::File;
use super::layers::{self, Gathered};
use super::{Problem, Sources};

const SECTION: &str = "telemetry";
const KEY: &str = "telemetry.listen";

/// `telemetry.listen` by the highest source that names it, whatever else is wrong with the settings.
///
/// A file that has become worse since is refused by a sidecar that serves, and must not make it look ill: of one that
/// is not TOML any more, what remains counts.
///
/// # Errors
/// What is wrong with that setting, or why the file can't be read where nothing else says it.
pub fn telemetry(sources: &Sources) -> Result<SocketAddr, Vec<Problem>> {
    let Sources { file, environment, flags } = sources.clone();
    let nothing = Sources::default;
    let by_height =
        [Sources { flags, ..nothing() }, Sources { environment, ..nothing() }, Sources { file, ..nothing() }];
    let named = by_height.iter().map(named).find_map(Result::transpose);
    named.unwrap_or_else(|| Ok(crate::telemetry::Config::default().listen))
}

/// The setting in a source; `None` where the source doesn't name it.
fn named(source: &Sources) -> Result<Option<SocketAddr>, Vec<Problem>> {
    let Gathered { layers, mut problems, complete } = layers::gather(source);
    problems.retain(|problem| !complete || [KEY, SECTION].contains(&&*problem.key));
    if !problems.is_empty() {
        return source.file.as_deref().and_then(remains).map(Some).ok_or(problems);
    }
    // The first layer is that of the defaults.
    let figment = layers.iter().skip(1).fold(Figment::new(), Figment::merge);
    Ok(figment.extract_inner(KEY).ok())
}

/// The setting in what remains of a file.
fn remains(file: &Path) -> Option<SocketAddr> {
    let rest = File::rest(&fs::read_to_string(file).ok()?);
    rest.values.get(SECTION)?.find_ref("listen")?.as_str()?.parse().ok()
}
