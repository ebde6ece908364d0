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
fn a_run_is_understood_as_by_the_whole() {
    for line in [
        "hull run alpine",
        "hull run --rm -it -m 1g --root /store -e A=1 --env B oci:x sh -c --rm",
        "hull run --network none --start warm docker-archive:/x.tar /bin/true",
        "hull run --from saved --name other",
        "hull run",
        "hull run --help",
        "hull run --nothing alpine",
        "hull run -m much alpine",
        "hull run --device x alpine",
        "hull --root /store run alpine",
        "hull runs alpine",
    ] {
        let words = || line.split(' ').map(OsString::from);
        let told = |cli: Result<Cli, clap::Error>| match cli {
            Ok(cli) => format!("{cli:?}"),
            Err(error) => error.render().to_string(),
        };
        assert_eq!(told(parse(words())), told(Cli::try_parse_from(words())));
    }
}

/// All flags of `docker run` (28.0).
const DOCKERS: &str = "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent \
    cgroupns cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus \
    cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps device-read-iops \
    device-write-bps device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env \
    env-file expose gpus group-add health-cmd health-interval health-retries health-start-interval \
    health-start-period health-timeout help hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc \
    isolation kernel-memory label label-file link link-local-ip log-driver log-opt mac-address memory \
    memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck \
    oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only \
    restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit \
    use-api-socket user userns uts volume volume-driver volumes-from workdir";

#[test]
fn each_flag_of_dockers_is_known_or_explained() {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").unwrap();
    let known = |flag: &str| {
        run.get_arguments().any(|arg| {
            arg.get_long() == Some(flag)
                || arg.get_all_aliases().is_some_and(|all| all.contains(&flag))
        })
    };
    let explained = |flag: &str| {
        let words = ["hull", "run", flag, "x", "image"];
        let mut error = Cli::try_parse_from(words).unwrap_err();
        let advice = refused::advice(&mut error);
        assert!(
            advice.is_none() || !error.to_string().contains("tip:"),
            "{error}"
        );
        advice.is_some()
    };
    for flag in DOCKERS.split_whitespace() {
        let typed = format!("--{flag}");
        assert!(known(flag) || explained(&typed), "{flag}");
    }
    for flag in ["-a", "-c", "--userns=host", "--pod", "--secret=id=x"] {
        assert!(explained(flag), "{flag}");
    }
    assert!(!explained("--no-such-flag"));
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
