//! Configurations as docker, podman and hand-written ones spell them.

use super::*;

#[test]
fn nulls_are_empty() {
    let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],
        "Entrypoint":null,"User":null,"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":null},
        "Labels":null,"StopSignal":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
    let config: ImageConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.config.cmd, ["sh"]);
    assert!(config.config.env.is_empty() && config.config.entrypoint.is_empty());
    assert!(config.config.volumes.contains_key("/data"));
    assert!(config.config.exposed_ports.contains_key("80/tcp"));
}

#[test]
fn round_trips() {
    let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"postgres","WorkingDir":"/w",
        "StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","true"],"Retries":3}},
        "rootfs":{"type":"layers","diff_ids":["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]},
        "history":[{"created_by":"x","empty_layer":true}]}"#;
    let config: ImageConfig = serde_json::from_str(text).unwrap();
    let again = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(config, again);
    assert_eq!(config.config.healthcheck.unwrap().retries, 3);
}
