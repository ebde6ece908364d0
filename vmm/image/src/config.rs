//! The image configuration document (OCI image spec, "Image Configuration"; docker's v1 image JSON).
//! Keeps what running and listing need; the bytes themselves are kept by the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Digest;

/// What an image says of itself. The SHA-256 of its bytes is the image's id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture in Go's words (`amd64`).
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Operating system in Go's words (`linux`).
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Variant of the architecture (`v8`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Execution,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it came to be, oldest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
}

/// How an image wants to be run. Absent and `null` are the same as empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `KEY=VALUE`, in order.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// First part of the command line.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// Second part, replaced by arguments of the user.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Directory the command starts in; empty is `/`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Signal that asks it to stop (`SIGTERM`, `15`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u64>,
    /// `PORT/PROTOCOL` it listens on.
    #[serde(deserialize_with = "keys", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Paths meant to be volumes.
    #[serde(deserialize_with = "keys", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Free labels. Data to show, never options.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// docker's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// The `{}` of a set written as a JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// docker's health check; times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Time between checks; 0 is the default.
    pub interval: i64,
    /// Time one check may take; 0 is the default.
    pub timeout: i64,
    /// Time before failures count; 0 is the default.
    pub start_period: i64,
    /// Time between checks during the start period; 0 is the default.
    pub start_interval: i64,
    /// Failures in a row that mean unhealthy; 0 is the default.
    pub retries: i64,
}

/// The layers of an image, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digest of each layer's uncompressed tar.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Free text.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// True where the step made no layer.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// Go writes empty slices, maps and strings as `null` at will.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A set written as an object whose values say nothing.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Empty>, D::Error> {
    let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
    Ok(map
        .unwrap_or_default()
        .into_keys()
        .map(|key| (key, Empty {}))
        .collect())
}

#[cfg(test)]
mod tests;
