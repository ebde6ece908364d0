//! Debian's registry on the loopback, for whoever tests with one. Knows no client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The user and password of [`Registry::with_password`].
pub const USER: &str = "user";
/// See [`USER`].
pub const PASSWORD: &str = "secret";

/// Debian's registry, serving on the loopback until dropped.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Where it keeps everything: `data`, and its certificate `cert.pem` if it has one.
    pub directory: TempDir,
}

impl Registry {
    /// Open to everybody, plain http.
    pub fn start() -> Result<Self> {
        Self::configured(|_| Ok(String::new()))
    }

    /// Wants [`USER`] and [`PASSWORD`].
    pub fn with_password() -> Result<Self> {
        Self::configured(|directory| {
            let file = directory.join("htpasswd");
            let hash = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
            fs::write(&file, format!("{USER}:{hash}\n"))?;
            Ok(format!(
                "auth:\n  htpasswd: {{realm: test, path: {}}}\n",
                file.display()
            ))
        })
    }

    /// Speaks TLS with the certificate `cert.pem` and its key `key.pem` in `directory`, signed by itself.
    pub fn with_tls() -> Result<Self> {
        Self::configured(|directory| {
            let (key, cert) = (directory.join("key.pem"), directory.join("cert.pem"));
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                ])
                .args(["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout"])
                .arg(&key)
                .arg("-out")
                .arg(&cert)
                .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .stdin(Stdio::null())
                .output()
                .context("openssl is needed")?;
            ensure!(
                made.status.success(),
                "openssl: {}",
                String::from_utf8_lossy(&made.stderr)
            );
            Ok(format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                cert.display(),
                key.display()
            ))
        })
    }

    fn configured(more: impl FnOnce(&Path) -> Result<String>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let root = directory.path();
        let more = more(root)?;
        let config = root.join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: test\n{more}",
            root.join("data").display()
        );
        fs::write(&config, text)?;
        // The registry ends with the thread that started it, also when the test is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("setpriv (util-linux) and docker-registry are needed")?;
        let said = child.stderr.take().context("It has no standard error")?;
        let mut lines = BufReader::new(said).lines();
        let address = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split([' ', ',', '"']).next()?.to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address: address.context("docker-registry does not say where it listens")?,
            directory,
        })
    }

    /// A name in this registry.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
