//! Plugins are programs: here scripts that write down how they were run, and answer as real ones do.

use std::fs;

use network::Transport;

use super::*;

/// A directory with lists, and one with plugins.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn list(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }

    /// A plugin that writes down how it was run, and then does this.
    fn plugin(&self, name: &str, act: &str) {
        let path = self.path().join(name);
        let log = self.path().join("log");
        let script = format!(
            "#!/bin/sh\n\
             echo \"{name} $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS\" >>{log}\n\
             cat >{path}.$CNI_COMMAND\n{act}\n",
            log = log.display(),
            path = path.display(),
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn heard(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(file)).unwrap()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn place(&self, wishes: &Wishes, ports: &[Publish]) -> Result<Place, CniError> {
        let (version, plugins) = find("lan", self.path())?;
        let path = format!("/nowhere:{}", self.path().display());
        Place::of("c0ffee", "lan", (version, plugins), path, wishes, ports)
    }
}

const LAN: &str = r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [
    {"type": "first", "capabilities": {"ips": true}, "own": 1},
    {"type": "second", "capabilities": {"portMappings": true, "mac": false}}
]}"#;

const ADDED: &str = r#"[ $CNI_COMMAND = ADD ] || exit 0
cat <<END
{"cniVersion": "1.0.0",
 "interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "$CNI_NETNS"}],
 "ips": [{"address": "10.7.0.5/24", "gateway": "10.7.0.1", "interface": 1}, {"address": "10.9.0.1/24", "interface": 0}],
 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16", "gw": "10.7.9.9"}],
 "dns": {"nameservers": ["10.7.0.1"], "search": ["example.org"], "options": ["ndots:2"]}}
END"#;

fn port() -> Publish {
    Publish {
        address: None,
        host: 8080,
        guest: 80,
        transport: Transport::Tcp,
    }
}

#[test]
fn plugins_are_run_one_after_the_other_and_undone_the_other_way_round() {
    let home = Home::new();
    home.list("10-other.conflist", "no JSON at all");
    home.list("20-lan.conflist", LAN);
    home.plugin("first", ADDED);
    home.plugin("second", "[ $CNI_COMMAND = ADD ] || exit 0; sed 's/.*\"prevResult\"://; s/,\"runtimeConfig.*//; s/,\"type.*//' $0.ADD");
    let wishes = Wishes {
        addresses: vec!["10.7.0.5".parse().unwrap()],
        mac: None,
    };
    let mut place = home.place(&wishes, &[port()]).unwrap();
    let (card, dns) = place.add("/proc/1/ns/net", &wishes).unwrap();
    let text = |card: &Card| {
        let own = card.addresses.iter().map(ToString::to_string);
        let ways = card
            .ways
            .iter()
            .map(|way| format!("{} {:?}", way.to, way.by));
        own.chain(ways).collect::<Vec<_>>()
    };
    assert_eq!(
        text(&card),
        [
            "10.7.0.5/24",
            "0.0.0.0/0 Some(10.7.0.1)",
            "10.7.9.9/32 None",
            "10.8.0.0/16 Some(10.7.9.9)",
        ]
    );
    assert_eq!(
        dns.text(),
        "nameserver 10.7.0.1\nsearch example.org\noptions ndots:2\n"
    );
    let first = home.heard("first.ADD");
    assert_eq!(first["name"], "lan");
    assert_eq!(first["cniVersion"], "1.0.0");
    assert_eq!(first["own"], 1);
    assert_eq!(first["runtimeConfig"], json!({ "ips": ["10.7.0.5"] }));
    assert!(first.get("capabilities").is_none() && first.get("prevResult").is_none());
    let second = home.heard("second.ADD");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.7.0.5/24");
    let mapping = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    assert_eq!(second["runtimeConfig"]["portMappings"], mapping);
    // As whoever finds it later has it.
    let text = serde_json::to_vec(&place).unwrap();
    let place: Place = serde_json::from_slice(&text).unwrap();
    place.delete(None).unwrap();
    assert_eq!(
        home.heard("first.DEL")["prevResult"]["ips"][0]["address"],
        "10.7.0.5/24"
    );
    let arguments = "eth0 IgnoreUnknown=true;IP=10.7.0.5";
    let told = format!(
        "first ADD c0ffee /proc/1/ns/net {arguments}\nsecond ADD c0ffee /proc/1/ns/net {arguments}\n\
         second DEL c0ffee  {arguments}\nfirst DEL c0ffee  {arguments}\n"
    );
    assert_eq!(home.log(), told);
}

#[test]
fn what_fails_says_which_plugin_and_why() {
    let home = Home::new();
    let missing = home.place(&Wishes::default(), &[]).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("There is no CNI network \"lan\"")
    );
    home.list("lan.conflist", LAN);
    let fails = |home: &Home| {
        let mut place = home.place(&Wishes::default(), &[]).unwrap();
        place.add("/x", &Wishes::default()).unwrap_err().to_string()
    };
    assert!(fails(&home).starts_with("There is no CNI plugin \"first\" in /nowhere:"));
    home.plugin(
        "first",
        r#"echo '{"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "at all"}'; exit 1"#,
    );
    assert_eq!(fails(&home), "The CNI plugin first says: no (at all)");
    home.plugin("first", "kill -9 $$");
    assert!(fails(&home).contains("signal: 9"));
    for odd in ["echo", r#"echo '{"ips": [{"address": "10.7.0.5"}]}'"#] {
        home.list("lan.conflist", &LAN.replace("second", "first"));
        home.plugin("first", odd);
        assert!(fails(&home).ends_with("no result"), "{odd}");
    }
    // Whatever one says, the others are asked too.
    home.list("lan.conflist", LAN);
    home.plugin("second", "exit 1");
    home.plugin("first", "");
    fs::remove_file(home.path().join("log")).unwrap();
    home.place(&Wishes::default(), &[])
        .unwrap()
        .delete(None)
        .unwrap_err();
    assert_eq!(home.log().matches(" DEL ").count(), 2);
}

#[test]
fn what_a_network_cannot_do_is_refused_before_any_plugin_runs() {
    let home = Home::new();
    home.list("lan.conflist", LAN);
    let mac = Wishes {
        mac: Some("02:00:00:00:00:09".to_owned()),
        ..Wishes::default()
    };
    let refused = home.place(&mac, &[]).unwrap_err().to_string();
    assert!(
        refused.contains("the capability mac, which --mac-address"),
        "{refused}"
    );
    home.list("lan.conflist", &LAN.replace("portMappings", "other"));
    let refused = home
        .place(&Wishes::default(), &[port()])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("portMappings, which -p needs"),
        "{refused}"
    );
    home.list("lan.conflist", &LAN.replace("1.0.0", "0.2.0"));
    let refused = home.place(&Wishes::default(), &[]).unwrap_err();
    assert!(matches!(refused, CniError::Version(..)), "{refused}");
    home.list(
        "lan.conflist",
        r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": []}"#,
    );
    let refused = home.place(&Wishes::default(), &[]).unwrap_err();
    assert!(matches!(refused, CniError::Empty(_)), "{refused}");
    for odd in ["", "../../bin/true", "/bin/true"] {
        home.list(
            "lan.conflist",
            &format!(r#"{{"cniVersion": "1.0.0", "name": "lan", "type": "{odd}"}}"#),
        );
        let mut place = home.place(&Wishes::default(), &[]).unwrap();
        let refused = place.add("/x", &Wishes::default()).unwrap_err();
        assert!(matches!(refused, CniError::NoPlugin(..)), "{refused}");
    }
    assert_eq!(home.log(), "");
}

#[test]
fn an_address_that_was_asked_for_is_given_or_nothing_runs() {
    let home = Home::new();
    home.list(
        "lan.conf",
        r#"{"cniVersion": "0.4.0", "name": "lan", "type": "first"}"#,
    );
    home.plugin("first", ADDED);
    let wishes = Wishes {
        addresses: vec!["10.7.0.9".parse().unwrap()],
        mac: None,
    };
    let refused = home
        .place(&wishes, &[])
        .unwrap()
        .add("/x", &wishes)
        .unwrap_err();
    assert!(matches!(refused, CniError::Address(_)), "{refused}");
}

#[test]
fn lines_of_resolv_conf_stay_lines() {
    let dns = Dns {
        nameservers: vec!["10.0.0.1\nnameserver 10.0.0.2".to_owned()],
        ..Dns::default()
    };
    assert_eq!(dns.text(), "nameserver 10.0.0.1 nameserver 10.0.0.2\n");
}
