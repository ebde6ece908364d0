//! Runs a credential helper (`docker-credential-NAME`, docker's protocol: a verb as argument, the request on standard
//! input, the answer on standard output), bounded in time and output. Knows not when one is wanted.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CredentialsError, Login};
use crate::program;
use crate::registry::printable;

/// How long a helper may take: it may have to ask its user to open a key ring.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most that is read of a helper's answer, in bytes.
const ANSWER_MAX: u64 = 256 * 1024;
/// What helpers say when they do not know a registry; part of the protocol, with exit status 1.
const UNKNOWN: &str = "credentials not found in native keychain";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What the helper knows about `server`.
pub(super) fn get(
    helper: &str,
    server: &str,
    path: Option<&OsString>,
) -> Result<Option<Login>, CredentialsError> {
    let Some(answer) = run(helper, "get", server.as_bytes(), path, PATIENCE)? else {
        return Ok(None);
    };
    // serde_json's own words could quote the secret.
    let entry: Entry =
        serde_json::from_slice(&answer).map_err(|_| CredentialsError::HelperFailed {
            program: program_of(helper),
            reason: "its answer is not in the form of credentials".to_owned(),
        })?;
    if entry.username.is_empty() {
        return Ok(None);
    }
    Ok(Some(Login::new(entry.username, entry.secret)))
}

/// Gives the helper a login to keep.
pub(super) fn store(
    helper: &str,
    server: &str,
    login: &Login,
    path: Option<&OsString>,
) -> Result<(), CredentialsError> {
    let (user, secret) = login.pair();
    let entry = Entry {
        server: server.to_owned(),
        username: user.to_owned(),
        secret: secret.expose().to_owned(),
    };
    let text = serde_json::to_vec(&entry).map_err(|_| CredentialsError::Unstorable)?;
    run(helper, "store", &text, path, PATIENCE).map(|_| ())
}

/// Makes the helper forget `server`. False if it knew nothing.
pub(super) fn erase(
    helper: &str,
    server: &str,
    path: Option<&OsString>,
) -> Result<bool, CredentialsError> {
    Ok(run(helper, "erase", server.as_bytes(), path, PATIENCE)?.is_some())
}

fn program_of(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// Runs one verb. None if the helper does not know the registry.
pub(super) fn run(
    helper: &str,
    verb: &str,
    input: &[u8],
    path: Option<&OsString>,
    patience: Duration,
) -> Result<Option<Vec<u8>>, CredentialsError> {
    let named = helper
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if helper.is_empty() || !named {
        return Err(CredentialsError::HelperName(helper.to_owned()));
    }
    let program = program_of(helper);
    let fail = |source| CredentialsError::HelperRun {
        program: program.clone(),
        source,
    };
    let mut command = Command::new(&program);
    command.arg(verb);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let outcome = program::run(&mut command, input, ANSWER_MAX, patience);
    let program::Ended { status, answer, .. } = outcome.map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut => CredentialsError::HelperSilent {
            program: program.clone(),
            seconds: patience.as_secs(),
        },
        _ => fail(source),
    })?;
    if status.success() {
        return Ok(Some(answer));
    }
    let text = String::from_utf8_lossy(&answer);
    if text.contains(UNKNOWN) {
        return Ok(None);
    }
    // Errors are on standard output by the protocol. After `get` something secret could be there as well.
    let reason = match text.trim_start().starts_with('{') {
        false if !text.trim().is_empty() => printable(&text, 200),
        _ => status.to_string(),
    };
    Err(CredentialsError::HelperFailed { program, reason })
}
