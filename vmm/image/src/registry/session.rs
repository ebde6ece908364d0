//! Talks to one repository of one registry: finds out the scheme, answers challenges, keeps the tokens. Credentials go to
//! the registry itself and to token servers that [`is_trusted_realm`] allows. Knows no manifest and no blob.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use ureq::http::{Method, header};

use super::answer::Answer;
use super::challenge::{self, Challenge};
use super::client::Shared;
use super::error::{ExchangeError, Fault, RegistryError};
use super::hosts::Location;
use super::http::{Call, Payload};
use super::url::{Origin, Url};
use crate::credentials::Login;
use crate::reference::DEFAULT_DOMAIN;
use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// Where docker hub's registry really is.
const HUB: &str = "registry-1.docker.io";
/// Who hands out docker hub's tokens.
const HUB_REALM: &str = "auth.docker.io";
/// Longest answer of a token server, in bytes.
const TOKEN_DOCUMENT_MAX: usize = 256 * 1024;
/// Longest token that is sent on, in bytes.
const TOKEN_MAX: usize = 64 * 1024;

/// What a request wants to do with the repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Nothing: ask who one is.
    None,
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Read and write, and read another repository of the registry to mount blobs from it.
    Mount(String),
}

/// One repository in one place.
pub(crate) struct Session {
    shared: std::sync::Arc<Shared>,
    location: Location,
    origin: OnceLock<Origin>,
    authorizations: Mutex<HashMap<Scope, Secret>>,
    /// Credentials to try instead of the stored ones.
    login: Option<Login>,
}

impl Session {
    pub(crate) fn new(
        shared: std::sync::Arc<Shared>,
        location: Location,
        login: Option<Login>,
    ) -> Self {
        Self {
            shared,
            location,
            origin: OnceLock::new(),
            authorizations: Mutex::default(),
            login,
        }
    }

    /// `host[:port]/path` of the place.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.location.domain, self.location.path)
    }

    /// The address of `rest` under this repository, such as `/manifests/latest`.
    pub(crate) fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        let path = format!("/v2/{}{rest}", self.location.path);
        Ok(self.origin()?.url(&path))
    }

    /// The address that asks whether this is a registry (distribution-spec 1.1 end-1).
    pub(crate) fn base(&self) -> Result<Url, RegistryError> {
        Ok(self.origin()?.url("/v2/"))
    }

    /// Makes the request; answers a challenge once. The caller judges the status.
    pub(crate) fn exchange(
        &self,
        scope: &Scope,
        mut call: Call<'_>,
    ) -> Result<Answer, RegistryError> {
        let origin = self.origin()?;
        call.insecure = self.is_insecure(origin);
        let own = call.url.origin() == origin;
        if own {
            call.authorization = self.known().get(scope).cloned();
        }
        let pausing = |host: &str, fault: &Fault, pause: Duration| {
            self.shared
                .progress
                .waiting(host, &fault.to_string(), pause);
        };
        let answer = self.shared.http.persist(&call, &pausing)?;
        // A challenge from where a redirect led is not ours to answer.
        if answer.status != 401 || !own || answer.url.origin() != origin {
            return Ok(answer);
        }
        let offered = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let challenges = challenge::read(offered.iter().filter_map(|value| value.to_str().ok()));
        let Some(authorization) = self.authorize(scope, &challenges)? else {
            return Err(self.denied(answer, false));
        };
        self.known().insert(scope.clone(), authorization.clone());
        call.authorization = Some(authorization);
        let answer = self.shared.http.persist(&call, &pausing)?;
        if answer.status == 401 {
            self.known().remove(scope);
            return Err(self.denied(answer, self.login()?.is_some()));
        }
        Ok(answer)
    }

    /// The error for a status that refuses access or says that there is no such thing.
    pub(crate) fn refused(&self, answer: Answer, what: &str) -> RegistryError {
        match answer.status.as_u16() {
            404 => RegistryError::Absent {
                name: what.to_owned(),
                reason: answer.refusal(),
            },
            // A 401 that is no challenge of the registry itself comes from where a redirect led.
            401 | 403 => {
                let identified = self.login().is_ok_and(|login| login.is_some());
                self.denied(answer, identified)
            }
            _ => answer.into_error().into(),
        }
    }

    fn denied(&self, answer: Answer, identified: bool) -> RegistryError {
        RegistryError::Denied {
            host: answer.url.origin().authority(),
            name: self.name(),
            reason: answer.refusal(),
            identified,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Scope, Secret>> {
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn login(&self) -> Result<Option<Login>, RegistryError> {
        if let Some(login) = &self.login {
            return Ok(Some(login.clone()));
        }
        Ok(self
            .shared
            .credentials
            .find(&self.location.domain, &self.location.path)?)
    }

    fn is_insecure(&self, origin: &Origin) -> bool {
        match self.shared.tls_verify {
            Some(verify) => !verify,
            None => self.location.insecure || origin.is_loopback(),
        }
    }

    /// Scheme, host and port. Where plain http will do, https is tried first, once.
    fn origin(&self) -> Result<&Origin, RegistryError> {
        if let Some(known) = self.origin.get() {
            return Ok(known);
        }
        let authority = match self.location.domain.as_str() {
            DEFAULT_DOMAIN => HUB,
            other => other,
        };
        let host = || RegistryError::Host(authority.to_owned());
        let secure = Origin::new(true, authority).ok_or_else(host)?;
        let mut found = secure.clone();
        if self.is_insecure(&secure) {
            let mut probe = Call::get(secure.url("/v2/"));
            probe.insecure = true;
            probe.document = true;
            if let Err(error) = self.shared.http.once(&probe) {
                // Plain http is for who does not speak TLS; the rest would not get better by it.
                if !matches!(
                    error.fault,
                    Fault::Handshake(_) | Fault::Connect(_) | Fault::Broken(_) | Fault::Protocol(_)
                ) {
                    return Err(error.into());
                }
                found = Origin::new(false, authority).ok_or_else(host)?;
            }
        }
        Ok(self.origin.get_or_init(|| found))
    }

    /// The `Authorization` for the first challenge that can be answered.
    fn authorize(
        &self,
        scope: &Scope,
        challenges: &[Challenge],
    ) -> Result<Option<Secret>, RegistryError> {
        let login = self.login()?;
        for challenge in challenges {
            match (challenge, &login) {
                (
                    Challenge::Bearer {
                        realm,
                        service,
                        scope: asked,
                    },
                    login,
                ) => {
                    let scopes = self.scopes(scope, asked.as_deref());
                    let token = self.token(realm, service.as_deref(), &scopes, login.as_ref())?;
                    return Ok(Some(Secret::new(format!("Bearer {}", token.expose()))));
                }
                (Challenge::Basic, Some(login @ Login::Password { .. })) => {
                    return Ok(Some(basic(login)));
                }
                (Challenge::Basic, _) => {}
            }
        }
        Ok(None)
    }

    /// The scopes to ask a token server for: what the registry named, or else what the specification says.
    fn scopes(&self, scope: &Scope, asked: Option<&str>) -> Vec<String> {
        let own = |actions: &str| format!("repository:{}:{actions}", self.location.path);
        match scope {
            Scope::None => asked.map(str::to_owned).into_iter().collect(),
            Scope::Pull => vec![asked.map_or_else(|| own("pull"), str::to_owned)],
            // Asked for both at once, a registry names one or the other only.
            Scope::Push => vec![own("pull,push")],
            Scope::Mount(from) => vec![own("pull,push"), format!("repository:{from}:pull")],
        }
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        login: Option<&Login>,
    ) -> Result<Secret, RegistryError> {
        let origin = self.origin()?;
        let shown = || super::text::printable(realm, 100);
        let unusable = |reason| RegistryError::Token {
            realm: shown(),
            reason,
        };
        let mut url =
            Url::parse(realm).ok_or_else(|| unusable("its address is no http address"))?;
        let to = url.origin().clone();
        let trusted = is_trusted_realm(origin, &to, &self.location);
        let reachable =
            (to.secure || !origin.secure) && (!to.is_loopback() || origin.is_loopback());
        if !reachable || (login.is_some() && !trusted) {
            return Err(RegistryError::Realm {
                host: origin.authority(),
                realm: url.to_string(),
            });
        }
        let mut form = String::new();
        let mut call;
        if let Some(Login::Identity(refresh)) = login {
            form.push_str("grant_type=refresh_token&client_id=hull");
            let pairs = [
                ("service", service),
                ("refresh_token", Some(refresh.expose())),
            ];
            let pairs = pairs
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            let joined = scopes.join(" ");
            for (name, value) in pairs.chain([("scope", joined.as_str())]) {
                form.push_str(&format!("&{name}={}", super::url::encode(value)));
            }
            call = Call::get(url);
            call.method = Method::POST;
            let kind = "application/x-www-form-urlencoded".to_owned();
            call.headers.push(("content-type", kind));
            call.payload = Payload::Bytes(form.as_bytes());
        } else {
            if let Some(service) = service {
                url = url.with_query("service", service);
            }
            for scope in scopes {
                url = url.with_query("scope", scope);
            }
            if let Some(Login::Password { user, .. }) = login {
                url = url.with_query("account", user);
            }
            call = Call::get(url);
            call.authorization = login.map(basic);
        }
        call.document = true;
        call.insecure = self.is_insecure(origin) && to.host == origin.host;
        let pausing = |host: &str, fault: &Fault, pause: Duration| {
            self.shared
                .progress
                .waiting(host, &fault.to_string(), pause);
        };
        let answer = self.shared.http.persist(&call, &pausing)?;
        match answer.status.as_u16() {
            200 => {}
            400 | 401 | 403 => return Err(self.denied(answer, login.is_some())),
            _ => return Err(answer.into_error().into()),
        }
        #[derive(Deserialize)]
        struct Granted {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bytes = answer.document(TOKEN_DOCUMENT_MAX)?;
        let granted: Granted =
            serde_json::from_slice(&bytes).map_err(|_| unusable("its answer is no token"))?;
        let token = granted
            .token
            .filter(|token| !token.is_empty())
            .or(granted.access_token)
            .ok_or_else(|| unusable("its answer holds none"))?;
        if token.len() > TOKEN_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("it cannot be part of a request"));
        }
        Ok(Secret::new(token))
    }

    /// The client's shared half.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Whether a registry's credentials may be sent to `realm`: to the registry's own host, to a domain above it (whose owner
/// decides where the registry's name leads anyway), to docker hub's token server for docker hub, or where the
/// administrator allows it.
fn is_trusted_realm(registry: &Origin, realm: &Origin, location: &Location) -> bool {
    if realm.host == registry.host && (realm.secure || realm.port == registry.port) {
        return true;
    }
    if !realm.secure && registry.secure {
        return false;
    }
    if location
        .realms
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(&realm.authority()))
    {
        return true;
    }
    if location.domain == DEFAULT_DOMAIN && realm.host == HUB_REALM {
        return realm.secure;
    }
    let is_name = registry.host.parse::<std::net::IpAddr>().is_err();
    is_name
        && realm.host.contains('.')
        && realm.secure
        && registry
            .host
            .strip_suffix(&realm.host)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// `Basic` of RFC 7617.
fn basic(login: &Login) -> Secret {
    let (user, secret) = match login {
        Login::Password { user, secret } => (user.as_str(), secret),
        Login::Identity(secret) => ("<token>", secret),
    };
    let pair = format!("{user}:{}", secret.expose());
    Secret::new(format!("Basic {}", BASE64.encode(pair)))
}

/// An exchange error for an answer that does not fit the protocol.
pub(crate) fn improper(answer: &Answer, reason: &str) -> RegistryError {
    ExchangeError::new(
        answer.url.origin().authority(),
        Fault::Protocol(reason.to_owned()),
    )
    .into()
}
