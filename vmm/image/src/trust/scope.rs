//! The scopes of containers-policy.json(5) that cover an image, most specific first. Knows no policy.

use std::path::Path;

use crate::reference::{Reference, Source};

/// The scopes of a name: itself with digest and with tag, the repository, its name spaces, the host, and wildcards for the
/// domains above it.
pub(super) fn of_reference(reference: &Reference) -> Vec<String> {
    let mut name = reference.repository();
    let mut scopes = Vec::new();
    scopes.extend(reference.digest().map(|digest| format!("{name}@{digest}")));
    scopes.extend(reference.tag().map(|tag| format!("{name}:{tag}")));
    while let Some((parent, _)) = name.rsplit_once('/') {
        let parent = parent.to_owned();
        scopes.push(name);
        name = parent;
    }
    let host = name.split(':').next().unwrap_or_default().to_owned();
    scopes.push(name);
    let mut rest = host.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        scopes.push(format!("*.{parent}"));
        rest = parent;
    }
    scopes
}

/// The policy's transport and the scopes of a source on this machine.
pub(super) fn of_source(source: &Source) -> (&'static str, Vec<String>) {
    match source {
        Source::Registry(reference) => ("docker", of_reference(reference)),
        Source::DockerDaemon(reference) => ("docker-daemon", of_reference(reference)),
        Source::ContainersStorage(reference) => ("containers-storage", of_reference(reference)),
        // The policy knows no scopes within these.
        Source::DockerArchive { .. } | Source::Stdin => ("docker-archive", Vec::new()),
        Source::Oci { path, tag } => ("oci", of_path(path, tag.as_deref())),
        Source::OciArchive { path, tag } => ("oci-archive", of_path(path, tag.as_deref())),
        Source::Directory(path) => ("dir", of_path(path, None)),
    }
}

/// `path:tag`, `path` and the directories above it but `/`, with all links resolved. Of a path that is no longer there, as
/// it was written down: without links.
fn of_path(path: &Path, tag: Option<&str>) -> Vec<String> {
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) if path.is_absolute() => path.to_owned(),
        Err(_) => return Vec::new(),
    };
    let mut scopes = Vec::new();
    scopes.extend(tag.map(|tag| format!("{}:{tag}", path.display())));
    scopes.extend(
        path.ancestors()
            .filter(|directory| directory.parent().is_some())
            .map(|directory| directory.display().to_string()),
    );
    scopes
}
