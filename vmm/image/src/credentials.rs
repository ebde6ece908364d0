//! Who one is at a registry: docker's `config.json`, podman's `auth.json`, credential helpers. Knows no network and never
//! shows a secret.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::reference::DEFAULT_DOMAIN;
use crate::secret::Secret;

mod file;
mod helper;
#[cfg(test)]
mod tests;

/// docker hub's key in `config.json`.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which helpers mark an identity token.
const TOKEN_USER: &str = "<token>";

/// What opens a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A user name and a password or access token.
    Password {
        /// The user.
        user: String,
        /// The password.
        secret: Secret,
    },
    /// A token to get other tokens with (`identitytoken`).
    Identity(Secret),
}

/// Where credentials are kept.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Files to look into, in this order.
    files: Vec<PathBuf>,
    /// The file `login` writes to.
    written: Option<PathBuf>,
    /// `$PATH`, for helpers.
    path: Option<OsString>,
}

/// Where a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Into a file, readable by its owner only but not encrypted.
    File(PathBuf),
    /// Into a credential helper.
    Helper(String),
}

/// Why credentials cannot be read or kept.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read or written.
    #[error("Cannot use the credentials in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not of the form of `config.json`.
    #[error("{path} is no valid credentials file: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the content.
        reason: &'static str,
    },
    /// Neither `HOME` nor a variable says where to write.
    #[error(
        "There is no place for credentials: neither HOME, DOCKER_CONFIG nor REGISTRY_AUTH_FILE is set"
    )]
    NoPlace,
    /// A credential helper's name that is no program name.
    #[error("The credential helper {0:?} has a name that is none")]
    HelperName(String),
    /// A credential helper cannot be run.
    #[error("Cannot run {program}")]
    HelperRun {
        /// `docker-credential-NAME`.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A credential helper took too long.
    #[error("{program} did not answer within {seconds} seconds")]
    HelperSilent {
        /// `docker-credential-NAME`.
        program: String,
        /// How long hull waited.
        seconds: u64,
    },
    /// A credential helper failed.
    #[error("{program} failed: {reason}")]
    HelperFailed {
        /// `docker-credential-NAME`.
        program: String,
        /// What it says, escaped and bounded.
        reason: String,
    },
    /// A user name that the file's form cannot hold.
    #[error(
        "A user name must not be empty or have a colon, and neither it nor the password a control character"
    )]
    Unstorable,
}

impl Credentials {
    /// Finds the files; reads none of them.
    ///
    /// With `REGISTRY_AUTH_FILE` only that one counts, for reading and writing. Otherwise podman's
    /// (`$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`) are read before docker's
    /// (`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`), which is the one written, as all tools read it.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let directory = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let path = variable("PATH");
        if let Some(only) = directory("REGISTRY_AUTH_FILE") {
            return Self {
                files: vec![only.clone()],
                written: Some(only),
                path,
            };
        }
        let home = directory("HOME");
        let config =
            directory("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker = directory("DOCKER_CONFIG")
            .or_else(|| home.as_ref().map(|home| home.join(".docker")))
            .map(|directory| directory.join("config.json"));
        let podman = [directory("XDG_RUNTIME_DIR"), config]
            .into_iter()
            .flatten()
            .map(|directory| directory.join("containers/auth.json"));
        Self {
            files: podman.chain(docker.clone()).collect(),
            written: docker,
            path,
        }
    }

    /// What opens `domain/path`: the most specific entry of the first file that has one.
    ///
    /// # Errors
    /// When a file that is there cannot be used, or a helper fails.
    pub fn find(&self, domain: &str, path: &str) -> Result<Option<Login>, CredentialsError> {
        for file in &self.files {
            let Some(document) = file::read(file)? else {
                continue;
            };
            if let Some(helper) = helper_for(&document, domain) {
                let found = helper::get(&helper, &server(domain), self.path.as_ref())?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            let entries = document.get("auths").and_then(Value::as_object);
            let Some((key, entry)) = entries.and_then(|entries| best(entries, domain, path)) else {
                continue;
            };
            if let Some(login) = login(entry).map_err(|reason| CredentialsError::Form {
                path: file.clone(),
                reason,
            })? {
                return Ok(Some(login));
            }
            // An empty entry says that docker's store has it.
            if let Some(store) = text(&document, "credsStore") {
                let found = helper::get(store, key, self.path.as_ref())?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// Keeps `login` for `domain`: in the helper that the file names for it, or else in the file itself.
    ///
    /// # Errors
    /// When neither can be done. What was kept before stays then.
    pub fn store(&self, domain: &str, login: &Login) -> Result<Stored, CredentialsError> {
        let path = self.written.as_ref().ok_or(CredentialsError::NoPlace)?;
        if !is_storable(login) {
            return Err(CredentialsError::Unstorable);
        }
        let document = file::read(path)?.unwrap_or_default();
        let key = server(domain);
        let helper = helper_for(&document, domain)
            .or_else(|| text(&document, "credsStore").map(str::to_owned));
        let entry = match &helper {
            Some(helper) => {
                helper::store(helper, &key, login, self.path.as_ref())?;
                Map::new()
            }
            None => entry(login),
        };
        file::change(path, |entries| {
            entries.retain(|known, _| !same_host(known, domain));
            entries.insert(key.clone(), Value::Object(entry));
        })?;
        Ok(helper.map_or_else(|| Stored::File(path.clone()), Stored::Helper))
    }

    /// Forgets `domain` in every file and helper. True if there was something to forget.
    ///
    /// # Errors
    /// When a file cannot be changed or a helper fails.
    pub fn erase(&self, domain: &str) -> Result<bool, CredentialsError> {
        let mut found = false;
        for path in &self.files {
            let Some(document) = file::read(path)? else {
                continue;
            };
            let auths = document.get("auths").and_then(Value::as_object);
            let here = auths.is_some_and(|auths| auths.keys().any(|key| same_host(key, domain)));
            let helper = helper_for(&document, domain);
            let store = text(&document, "credsStore").map(str::to_owned);
            if let Some(helper) = helper.or_else(|| store.filter(|_| here)) {
                found |= helper::erase(&helper, &server(domain), self.path.as_ref())?;
            }
            if here {
                found = true;
                file::change(path, |entries| {
                    entries.retain(|key, _| !same_host(key, domain))
                })?;
            }
        }
        Ok(found)
    }
}

/// The key under which docker keeps a registry, and what it calls it when it talks to helpers.
fn server(domain: &str) -> String {
    match domain {
        DEFAULT_DOMAIN => HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// A key without scheme and docker's version path; docker hub by one name.
fn plain(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    let (host, rest) = bare
        .split_once('/')
        .map_or((bare, None), |(host, rest)| (host, Some(rest)));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        other => other.to_owned(),
    };
    match rest {
        Some(rest) => format!("{host}/{rest}"),
        None => host,
    }
}

fn same_host(key: &str, domain: &str) -> bool {
    plain(key) == domain
}

/// The longest key that is `domain/path` or a prefix of it that ends at a slash.
fn best<'a>(
    entries: &'a Map<String, Value>,
    domain: &str,
    path: &str,
) -> Option<(&'a str, &'a Value)> {
    let name = format!("{domain}/{path}");
    entries
        .iter()
        .map(|(key, value)| (plain(key), key, value))
        .filter(|(bare, ..)| {
            name.strip_prefix(bare.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .max_by_key(|(bare, ..)| bare.len())
        .map(|(_, key, value)| (key.as_str(), value))
}

/// The helper that a file names for one registry.
fn helper_for(document: &Map<String, Value>, domain: &str) -> Option<String> {
    let helpers = document.get("credHelpers")?.as_object()?;
    let (_, helper) = helpers.iter().find(|(key, _)| same_host(key, domain))?;
    helper.as_str().map(str::to_owned)
}

fn text<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    document.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// What an entry of `auths` holds; nothing if it is empty.
fn login(entry: &Value) -> Result<Option<Login>, &'static str> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let identity = field("identitytoken");
    if !identity.is_empty() {
        return Ok(Some(Login::Identity(Secret::new(identity.to_owned()))));
    }
    let auth = field("auth");
    let (user, secret) = if auth.is_empty() {
        (field("username").to_owned(), field("password").to_owned())
    } else {
        let bytes = BASE64
            .decode(auth.trim())
            .map_err(|_| "an auth field is no base64")?;
        let pair = String::from_utf8(bytes).map_err(|_| "an auth field is no text")?;
        // Some tools pad the password with NULs.
        let pair = pair.trim_end_matches('\0');
        let (user, secret) = pair
            .split_once(':')
            .ok_or("an auth field has no user name")?;
        (user.to_owned(), secret.to_owned())
    };
    if user.is_empty() {
        return Ok(None);
    }
    Ok(Some(Login::new(user, secret)))
}

impl Login {
    /// A user name and what helpers call its secret.
    pub(crate) fn new(user: String, secret: String) -> Self {
        let secret = Secret::new(secret);
        if user == TOKEN_USER {
            return Self::Identity(secret);
        }
        Self::Password { user, secret }
    }

    /// The two as helpers know them.
    fn pair(&self) -> (&str, &Secret) {
        match self {
            Self::Password { user, secret } => (user, secret),
            Self::Identity(secret) => (TOKEN_USER, secret),
        }
    }
}

fn is_storable(login: &Login) -> bool {
    let (user, secret) = login.pair();
    !user.is_empty()
        && !user.contains(':')
        && !user
            .chars()
            .chain(secret.expose().chars())
            .any(char::is_control)
}

/// The entry of `auths` for a login.
fn entry(login: &Login) -> Map<String, Value> {
    let (name, value) = match login {
        Login::Identity(secret) => ("identitytoken", secret.expose().to_owned()),
        Login::Password { user, secret } => {
            ("auth", BASE64.encode(format!("{user}:{}", secret.expose())))
        }
    };
    Map::from_iter([(name.to_owned(), Value::String(value))])
}

/// What is done with a credentials file, for the fuzz target. No helper is there to be run.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &[u8]) {
    let scratch = crate::fuzz::Scratch::new();
    let variable = |name: &str| match name {
        "PATH" => Some(OsString::from("/dev/null")),
        "HOME" | "DOCKER_CONFIG" => Some(scratch.0.clone().into_os_string()),
        _ => None,
    };
    let credentials = Credentials::from_environment(&variable);
    if scratch.write("config.json", text).is_err() {
        return;
    }
    let file = scratch.0.join("config.json").into_os_string();
    let only = Credentials::from_environment(&|name| match name {
        "REGISTRY_AUTH_FILE" => Some(file.clone()),
        name => variable(name),
    });
    for (domain, path) in [(DEFAULT_DOMAIN, "library/a"), ("quay.io", "a/b")] {
        if let (Ok(found), Ok(again)) = (credentials.find(domain, path), only.find(domain, path)) {
            assert_eq!(found, again);
            found.map(|login| credentials.store("x.io", &login).map(drop));
        }
    }
    let login = Login::new("u".to_owned(), "p".to_owned());
    if let Ok(Stored::File(_)) = credentials.store("r.io", &login) {
        let _ = credentials.find("r.io", "a");
        assert!(matches!(credentials.erase("r.io"), Ok(true)));
    }
    let _ = credentials.erase(DEFAULT_DOMAIN);
    let token = Login::new(TOKEN_USER.to_owned(), "t".to_owned());
    let _ = credentials.store("quay.io", &token);
}
