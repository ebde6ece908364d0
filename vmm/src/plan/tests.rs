//! Arguments and image configurations, merged as docker merges them.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    args: RunArgs,
}

fn typed(words: &[&str]) -> RunArgs {
    Typed::try_parse_from([&["run"], words].concat())
        .unwrap()
        .args
}

fn image() -> Execution {
    Execution {
        entrypoint: vec!["/entry".into(), "-x".into()],
        cmd: vec!["default".into()],
        env: vec!["PATH=/bin".into(), "A=image".into()],
        working_dir: "/srv".into(),
        user: "www".into(),
        ..Execution::default()
    }
}

fn argv(words: &[&str]) -> Result<Vec<String>, PlanError> {
    let process = process(&typed(words), &image())?;
    Ok(process
        .argv
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect())
}

#[test]
fn command_and_entrypoint_combine_as_docker_combines_them() {
    assert_eq!(argv(&["i"]).unwrap(), ["/entry", "-x", "default"]);
    assert_eq!(
        argv(&["i", "ls", "-l"]).unwrap(),
        ["/entry", "-x", "ls", "-l"]
    );
    assert_eq!(argv(&["--entrypoint", "sh", "i"]).unwrap(), ["sh"]);
    assert_eq!(
        argv(&["--entrypoint", "sh", "i", "-c", "x"]).unwrap(),
        ["sh", "-c", "x"]
    );
    assert_eq!(argv(&["--entrypoint", "", "i", "ls"]).unwrap(), ["ls"]);
    assert!(matches!(
        argv(&["--entrypoint", "", "i"]),
        Err(PlanError::NoCommand)
    ));
    assert!(matches!(
        argv(&["--entrypoint", "", "i", ""]),
        Err(PlanError::NoCommand)
    ));
}

#[test]
fn the_image_says_user_and_directory_unless_the_user_does() {
    let process = process(&typed(&["i"]), &image()).unwrap();
    assert_eq!((process.user, process.cwd), ("www".into(), "/srv".into()));
    let process = super::process(&typed(&["-u", "1:2", "-w", "/x", "i"]), &image()).unwrap();
    assert_eq!((process.user, process.cwd), ("1:2".into(), "/x".into()));
    let relative = super::process(&typed(&["-w", "x", "i"]), &image());
    assert!(matches!(relative, Err(PlanError::Workdir(_))));
}

fn variables(words: &[&str]) -> Result<Vec<String>, PlanError> {
    let variables = environment(&typed(words), &image())?;
    Ok(variables
        .iter()
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect())
}

#[test]
fn a_later_variable_wins_and_keeps_the_place() {
    let set = variables(&[
        "-e",
        "A=1",
        "-e",
        "B=",
        "-e",
        "A=2=3",
        "-e",
        "NOT_SET_ANYWHERE",
        "i",
    ]);
    assert_eq!(set.unwrap(), ["PATH=/bin", "A=2=3", "B="]);
    for bad in ["", "=x", "A B=1"] {
        assert!(
            matches!(variables(&["-e", bad, "i"]), Err(PlanError::Variable(_))),
            "{bad}"
        );
    }
}

fn own_path() -> String {
    format!("PATH={}", env::var("PATH").unwrap())
}

#[test]
fn a_bare_variable_takes_hulls_own_value() {
    let set = variables(&["-e", "PATH", "i"]).unwrap();
    assert_eq!(set, [own_path().as_str(), "A=image"]);
}

#[test]
fn env_files_are_read_as_docker_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    let name = file.to_str().unwrap();
    fs::write(
        &file,
        "# comment\n\n  A=from file  \r\nQ=\"quoted\"\nPATH\nNOT_SET\n",
    )
    .unwrap();
    let set = variables(&["--env-file", name, "-e", "Q=flag", "i"]).unwrap();
    assert_eq!(set, [own_path().as_str(), "A=from file  ", "Q=flag"]);
    for (text, line) in [("A=1\n=2", 2), ("A B=1", 1), ("A=\0", 1)] {
        fs::write(&file, text).unwrap();
        match variables(&["--env-file", name, "i"]) {
            Err(PlanError::EnvLine { line: at, .. }) => assert_eq!(at, line),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        variables(&["--env-file", "/nowhere", "i"]),
        Err(PlanError::EnvFile(..))
    ));
}

#[test]
fn shapes_out_of_bounds_are_refused() {
    let usual = VmConfig {
        network: Some(::network::Settings::default()),
        ..VmConfig::default()
    };
    assert_eq!(shape(&typed(&["i"])).unwrap(), usual);
    assert_eq!(
        shape(&typed(&["--cpus", "16", "i"])).unwrap().cpus.count(),
        16
    );
    assert!(matches!(
        shape(&typed(&["--cpus", "1.5", "i"])),
        Err(PlanError::Fraction(_))
    ));
    assert!(matches!(
        shape(&typed(&["--cpus", "many", "i"])),
        Err(PlanError::Cpus(_))
    ));
    for words in [
        ["--cpus", "0", "i"],
        ["--cpus", "17", "i"],
        ["-m", "1m", "i"],
        ["-m", "2000g", "i"],
    ] {
        assert!(
            matches!(shape(&typed(&words)), Err(PlanError::Config(_))),
            "{words:?}"
        );
    }
}

#[test]
fn host_names_are_checked() {
    for good in ["web", "web-1.example.org", &"x".repeat(64)] {
        assert!(checked_hostname(good).is_ok(), "{good}");
    }
    for bad in ["", "-x", "a b", "a\n", "ü", &"x".repeat(65)] {
        assert!(checked_hostname(bad).is_err(), "{bad}");
    }
}

fn card(words: &[&str]) -> Result<Option<::network::Settings>, PlanError> {
    network::settings(&typed(&[words, &["i"]].concat()))
}

#[test]
fn there_is_a_network_unless_there_is_to_be_none() {
    assert_eq!(card(&[]).unwrap().unwrap(), ::network::Settings::default());
    assert_eq!(card(&["--network=none"]).unwrap(), None);
    for flag in [
        "-p=80",
        "-P",
        "--egress=deny",
        "--add-host=a:host-gateway",
        "--ip=10.0.2.9",
        "--net-rate=1m",
    ] {
        let refused = card(&["--network=none", flag]);
        assert!(matches!(refused, Err(PlanError::NoNetwork(_))), "{flag}");
    }
    for address in ["10.0.3.1", "10.0.2.2", "10.0.2.255", "127.0.0.1"] {
        let refused = card(&["--ip", address]);
        assert!(matches!(refused, Err(PlanError::Ip(_))), "{address}");
    }
    let refused = card(&["--network-alias=db"]);
    assert!(matches!(refused, Err(PlanError::NoNeighbours)));
    let refused = card(&["--network=back", "--network-alias=a,b"]);
    assert!(matches!(refused, Err(PlanError::Alias(_))));
    let member = card(&["--network=back", "--network-alias=db"]);
    assert!(member.unwrap().unwrap().neighbours);
    let words = [
        "--egress=allow=example.org",
        "--dns=192.0.2.1",
        "--ip=10.0.2.9",
        "--add-host=a:host-gateway",
    ];
    let card = card(&words).unwrap().unwrap();
    assert_eq!(card.egress.unwrap().len(), 1);
    assert_eq!(card.resolvers.len(), 1);
    assert!(card.host && card.address.to_string() == "10.0.2.9");
}

#[test]
fn a_tap_device_has_the_addresses_that_were_typed_and_no_rules() {
    let uplink = |words: &[&str]| network::uplink(&typed(&[words, &["i"]].concat()).network, false);
    let tap = "--network=tap:tap0";
    assert_eq!(uplink(&[]).unwrap(), None);
    for flag in [
        "-p=80:80",
        "-P",
        "--egress=deny",
        "--net-rate=1m",
        "--add-host=a:host-gateway",
    ] {
        let refused = card(&[tap, flag]);
        assert!(
            matches!(refused, Err(PlanError::NotOnDevice { .. })),
            "{flag}"
        );
    }
    for flag in ["--ip6=fd00::5/64", "--gateway=10.0.2.2", "--ip=10.0.2.9/24"] {
        let refused = card(&[flag]);
        assert!(matches!(refused, Err(PlanError::OnDevice(_))), "{flag}");
        let refused = card(&[flag, "--network=none"]);
        assert!(matches!(refused, Err(PlanError::NoNetwork(_))), "{flag}");
    }
    let refused = |words: &[&str]| uplink(&[&[tap], words].concat()).unwrap_err().to_string();
    assert!(refused(&["--ip=192.0.2.5"]).contains("--ip 192.0.2.5/24"));
    for own in [
        "192.0.2.0/24",
        "192.0.2.255/24",
        "127.0.0.1/8",
        "224.0.0.1/4",
        "192.0.2.5/0",
    ] {
        assert!(refused(&["--ip", own]).contains(own), "{own}");
    }
    assert!(refused(&["--gateway=192.0.2.1"]).contains("192.0.2.1"));
    assert!(refused(&["--ip=192.0.2.5/24", "--gateway=192.0.3.1"]).contains("192.0.3.1"));
    let two = [
        "--ip=192.0.2.5/24",
        "--gateway=192.0.2.1",
        "--gateway=192.0.2.2",
    ];
    assert!(refused(&two).contains("two gateways"));
    assert!(uplink(&[tap, "--ip=192.0.2.0/31"]).is_ok());
    let words = [
        tap,
        "--ip=192.0.2.5/24",
        "--ip6=fd00::5/64",
        "--gateway=fd00::1",
        "--gateway=192.0.2.1",
    ];
    let Some(Uplink::Tap { device, card }) = uplink(&words).unwrap() else {
        panic!("it is none")
    };
    assert_eq!(
        (device.as_str(), card.addresses.len(), card.ways.len()),
        ("tap0", 2, 2)
    );
}

#[test]
fn all_named_ports_are_published_when_asked_for() {
    let exposed = [
        "80/tcp".to_owned(),
        "53/udp".to_owned(),
        "nonsense".to_owned(),
    ];
    let ports = |words: &[&str]| {
        let args = typed(&[words, &["i"]].concat());
        let ports = network::ports(&args.network, exposed.iter()).unwrap();
        ports
            .iter()
            .map(|port| (port.host, port.guest))
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&[]), []);
    assert_eq!(ports(&["-p=8080:80"]), [(8080, 80)]);
    assert_eq!(
        ports(&["-p=8080:80", "-P", "--expose=99"]),
        [(8080, 80), (0, 99), (0, 53)]
    );
}
