//! Exports by skopeo, from a containers-storage of its own. What the tools say when they have nothing.

use std::path::Path;

use super::*;

fn storage(name: &str) -> Source {
    Source::ContainersStorage(name.parse().unwrap())
}

#[test]
fn only_the_stores_of_docker_and_podman_have_tools() {
    assert!(tools(&Source::Stdin).is_none());
    assert!(matches!(id(&Source::Stdin), Err(ExportError::Foreign(_))));
    let words = |source: &Source| {
        let tools = tools(source).unwrap();
        let lines = tools
            .iter()
            .map(|tool| format!("{} {}", tool.program, tool.export.join(" ")));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        words(&Source::DockerDaemon("alpine".parse().unwrap())),
        [
            "docker image save docker.io/library/alpine:latest",
            "skopeo --insecure-policy copy --quiet docker-daemon:docker.io/library/alpine:latest docker-archive:/proc/self/fd/1",
        ]
    );
    assert!(words(&storage("a/b:c"))[0].starts_with("podman image save docker.io/a/b:c"));
}

#[test]
fn what_is_not_there_is_told_in_the_tools_words() {
    // Whichever of podman and skopeo this machine has.
    let error = id(&storage("nobody/nothing:never")).unwrap_err();
    match &error {
        ExportError::Refused { complaint, .. } => {
            assert!(
                complaint.contains("nothing") && !complaint.contains(char::is_control),
                "{error}"
            );
        }
        other => panic!("skopeo or podman is needed: {other}"),
    }
    assert!(Path::new("/usr/bin/skopeo").exists());
}
