//! What can be typed and how it is understood.

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_verb_keeps_its_own_help_when_its_arguments_are_defined() {
    let mut command = Cli::command();
    let abouts = |command: &clap::Command| -> Vec<_> {
        let verbs = command.get_subcommands();
        let about = |verb: &clap::Command| verb.get_about().map(ToString::to_string);
        verbs
            .map(|verb| (verb.get_name().to_owned(), about(verb)))
            .filter(|(name, _)| name != "help")
            .collect()
    };
    let before = abouts(&command);
    command.build();
    assert_eq!(abouts(&command), before);
}

#[test]
fn sizes_are_read_as_docker_reads_them() {
    for (text, bytes) in [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 gb", 2 << 30),
        ("7b", 7),
    ] {
        assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
    }
    for text in [
        "",
        "m",
        "-1m",
        "1x",
        "1.m",
        ".5m",
        "1.2.3m",
        "99999999999t",
        "1e3",
        "١m",
    ] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn flags_after_the_image_belong_to_the_command() {
    let cli = Cli::try_parse_from([
        "hull", "run", "-i", "oci:x", "ls", "-la", "--rm", "--", "-e",
    ])
    .unwrap();
    let Verb::Run(args) = cli.verb else {
        panic!("not run")
    };
    let args = args.create.0;
    assert!(args.interactive && !args.rm && args.env.is_empty());
    assert_eq!(args.command, ["ls", "-la", "--rm", "--", "-e"]);
}

#[test]
fn flags_that_docker_has_and_hull_has_not_are_explained() {
    let advice = |flag: &str| {
        let error = Cli::try_parse_from(["hull", "run", flag, "x", "image"]).unwrap_err();
        refused::advice(&error)
    };
    for flag in [
        "--volumes-from",
        "--link=db",
        "--userns=host",
        "--device",
        "--cpu-shares",
    ] {
        assert!(advice(flag).is_some(), "{flag}");
    }
    assert_eq!(advice("--no-such-flag"), None);
}

#[test]
fn of_a_snapshot_only_name_and_stay_are_said() {
    let kind = |words: &[&str]| {
        let words = [&["hull", "run", "--from", "warm"], words].concat();
        Cli::try_parse_from(words).err().map(|error| error.kind())
    };
    let conflict = Some(clap::error::ErrorKind::ArgumentConflict);
    let allowed = ["-d", "--rm", "--name", "two", "--root", "/store"];
    assert_eq!(kind(&allowed), None);
    for words in [
        &["image"][..],
        &["-i"],
        &["-t"],
        &["-e", "A=b"],
        &["-p", "80"],
        &["-v", "/x:/x"],
        &["--memory", "1g"],
        &["--timings"],
        &["--health-cmd", "x"],
    ] {
        assert_eq!(kind(words), conflict, "{words:?}");
    }
    let error = Cli::try_parse_from(["hull", "run"]).unwrap_err();
    assert_eq!(
        error.kind(),
        clap::error::ErrorKind::MissingRequiredArgument
    );
}
