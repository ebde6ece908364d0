//! Instructions of a Dockerfile.

use super::*;

#[test]
fn instructions_change_how_an_image_runs() {
    let mut execution = Execution::default();
    for text in [
        "CMD [\"sh\", \"-c\", \"true\"]",
        "entrypoint /bin/app --flag",
        "ENV A=b c",
        "ENV D \"e f\"",
        "USER 7:8",
        "WORKDIR /work",
        "LABEL x=\"y\"",
        "STOPSIGNAL SIGINT",
        "VOLUME /a /b",
        "VOLUME [\"/c d\"]",
    ] {
        text.parse::<Change>()
            .unwrap()
            .apply(&mut execution)
            .unwrap();
    }
    assert_eq!(execution.cmd, ["sh", "-c", "true"]);
    assert_eq!(execution.entrypoint, ["/bin/sh", "-c", "/bin/app --flag"]);
    assert_eq!(execution.env, ["A=b c", "D=e f"]);
    assert_eq!(
        (&*execution.user, &*execution.working_dir),
        ("7:8", "/work")
    );
    assert_eq!(execution.labels["x"], "y");
    assert_eq!(execution.stop_signal.as_deref(), Some("SIGINT"));
    let volumes: Vec<_> = execution.volumes.keys().collect();
    assert_eq!(volumes, ["/a", "/b", "/c d"]);
    for text in ["CMD", "CMD [1", "RUN true", "ENV novalue"] {
        assert!(text.parse::<Change>().is_err(), "{text}");
    }
}
