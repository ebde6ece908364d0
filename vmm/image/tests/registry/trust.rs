//! Signed, unsigned and tampered images, under policies, and that skopeo finds the same scopes (Debian's cannot check
//! cosign's signatures). Keys and signatures are OpenSSL's, so that not only ring has to agree with itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::registry::Content;
use image::trust::{Policy, TrustError, Verdict};
use image::{Descriptor, Digest, Manifest, Platform, media_type};

use crate::faults::{Action, Faults};
use crate::fixture::{Home, Image, Registry, name, noise, run};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    P256,
    Ed25519,
}

/// A key pair in two files.
pub(crate) struct Key {
    private: PathBuf,
    pub(crate) public: PathBuf,
    kind: Kind,
}

impl Key {
    pub(crate) fn new(home: &Home, label: &str, kind: Kind) -> Self {
        let private = home.path().join(format!("{label}.key"));
        let public = home.path().join(format!("{label}.pub"));
        let algorithm: &[&str] = match kind {
            Kind::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::Ed25519 => &["ED25519"],
        };
        let mut openssl = Command::new("openssl");
        run(openssl
            .args(["genpkey", "-algorithm"])
            .args(algorithm)
            .arg("-out")
            .arg(&private));
        let mut openssl = Command::new("openssl");
        run(openssl
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public));
        Self {
            private,
            public,
            kind,
        }
    }

    pub(crate) fn sign(&self, home: &Home, message: &[u8]) -> Vec<u8> {
        let file = home.write("message", message);
        let mut openssl = Command::new("openssl");
        match self.kind {
            Kind::P256 => openssl
                .args(["dgst", "-sha256", "-sign"])
                .arg(&self.private)
                .arg(file),
            Kind::Ed25519 => openssl
                .args(["pkeyutl", "-sign", "-rawin", "-inkey"])
                .arg(&self.private)
                .arg("-in")
                .arg(file),
        };
        run(&mut openssl)
    }
}

pub(crate) fn payload(identity: &str, digest: &Digest, kind: &str) -> Vec<u8> {
    let value = serde_json::json!({
        "critical": {
            "identity": {"docker-reference": identity},
            "image": {"docker-manifest-digest": digest},
            "type": kind,
        },
        "optional": null,
    });
    serde_json::to_vec(&value).unwrap()
}

pub(crate) const COSIGN: &str = "cosign container image signature";

/// Stores signed payloads beside an image as cosign does.
pub(crate) fn attach(
    home: &Home,
    registry: &Registry,
    image: &Digest,
    signed: &[(Vec<u8>, Vec<u8>)],
) {
    let to = registry.name(&format!("app:sha256-{}.sig", image.hex()));
    let repository = home.client().open_for_push(&to).unwrap();
    let mut layers: Vec<Descriptor> = Vec::new();
    for (payload, signature) in signed {
        let mut layer = Descriptor::of(PAYLOAD, payload);
        let annotation = (
            "dev.cosignproject.cosign/signature".to_owned(),
            BASE64.encode(signature),
        );
        layer.annotations = Some(BTreeMap::from([annotation]));
        repository
            .push_blob(&layer, Content::Bytes(payload), None)
            .unwrap();
        layers.push(layer);
    }
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    let config = serde_json::json!({"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let described = Descriptor::of(media_type::OCI_CONFIG, &config);
    repository
        .push_blob(&described, Content::Bytes(&config), None)
        .unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: described,
        layers,
        annotations: None,
    };
    let bytes = serde_json::to_vec(&manifest).unwrap();
    repository
        .push_manifest(&bytes, media_type::OCI_MANIFEST)
        .unwrap();
}

pub(crate) fn policy(home: &Home, requirement: &str) -> Policy {
    let path = home.write("policy.json", format!(r#"{{"default":[{requirement}]}}"#));
    Policy::read(&path).unwrap()
}

pub(crate) fn signed_by(key: &Key, identity: &str) -> String {
    format!(
        r#"{{"type":"sigstoreSigned","keyPath":"{}","signedIdentity":{{"type":"{identity}"}}}}"#,
        key.public.display()
    )
}

fn judge(home: &Home, policy: &Policy, address: &str, tag: &str) -> Result<Verdict, TrustError> {
    let repository = Arc::new(
        home.client()
            .open(&name(address, &format!("app{tag}")))
            .unwrap(),
    );
    let fetched = repository.manifest(&Platform::host()).unwrap();
    policy
        .check(&repository, &fetched)
        .map(|(verdict, _)| verdict)
}

/// Whether skopeo takes the image under the policy that [`policy`] wrote last.
fn skopeo_takes(home: &Home, registry: &Registry, tag: &str) -> bool {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new("skopeo")
        .arg("--policy")
        .arg(home.path().join("policy.json"))
        .args([
            "copy",
            "-q",
            "--remove-signatures",
            "--src-tls-verify=false",
        ])
        .arg(format!("docker://{}/app{tag}", registry.address))
        .arg(format!("dir:{}", out.path().display()))
        .output()
        .expect("skopeo is needed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() || text.contains("rejected") || text.contains("signature"),
        "{text}"
    );
    output.status.success()
}

fn published() -> (Registry, Home, Image) {
    let registry = Registry::start();
    let home = Home::new();
    let image = Image::new(vec![noise(1, 1000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    (registry, home, image)
}

#[test]
fn a_signature_by_the_right_key_for_the_right_image_is_accepted() {
    for kind in [Kind::P256, Kind::Ed25519] {
        let (registry, home, image) = published();
        let key = Key::new(&home, "right", kind);
        let other = Key::new(&home, "other", kind);
        let repository = format!("{}/app", registry.address);
        let demand = policy(&home, &signed_by(&key, "matchRepository"));
        let unsigned = judge(&home, &demand, &registry.address, ":1").unwrap_err();
        assert!(
            unsigned.to_string().ends_with("there is no signature"),
            "{unsigned}"
        );

        let payload = payload(&repository, &image.digest(), COSIGN);
        let signature = key.sign(&home, &payload);
        attach(&home, &registry, &image.digest(), &[(payload, signature)]);
        assert_eq!(
            judge(&home, &demand, &registry.address, ":1").unwrap(),
            Verdict::Signed
        );
        let pinned = format!("@{}", image.digest());
        assert_eq!(
            judge(&home, &demand, &registry.address, &pinned).unwrap(),
            Verdict::Signed
        );
        // cosign names no tag.
        let exact = policy(&home, &signed_by(&key, "matchRepoDigestOrExact"));
        let error = judge(&home, &exact, &registry.address, ":1").unwrap_err();
        assert!(error.to_string().contains("use matchRepository"), "{error}");
        assert!(judge(&home, &exact, &registry.address, &pinned).is_ok());

        let foreign = policy(&home, &signed_by(&other, "matchRepository"));
        let error = judge(&home, &foreign, &registry.address, ":1").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("none of its 1 signatures is by an accepted key"),
            "{error}"
        );
        // Both demands at once are more than one.
        let both = format!(
            "{},{}",
            signed_by(&key, "matchRepository"),
            signed_by(&other, "matchRepository")
        );
        assert!(judge(&home, &policy(&home, &both), &registry.address, ":1").is_err());
    }
}

#[test]
fn what_is_signed_must_be_this_image() {
    let (registry, home, image) = published();
    let key = Key::new(&home, "right", Kind::P256);
    let demand = policy(&home, &signed_by(&key, "matchRepository"));
    let repository = format!("{}/app", registry.address);
    let digest = image.digest();
    let other = Digest::of(b"another image");
    let elsewhere = format!("{}/elsewhere", registry.address);
    for (payload, expected) in [
        (payload(&repository, &other, COSIGN), "the signature is for"),
        (payload(&elsewhere, &digest, COSIGN), "the signature names"),
        (
            payload(&repository, &digest, "something else"),
            "what is signed is \"something else\"",
        ),
        (b"{}".to_vec(), "not in the form"),
        (payload("\u{1b}[31m", &digest, COSIGN), "\\u{1b}[31m"),
    ] {
        let signature = key.sign(&home, &payload);
        attach(&home, &registry, &digest, &[(payload, signature)]);
        let error = judge(&home, &demand, &registry.address, ":1").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains('\x1b'));
    }
    // One good signature among bad ones is enough.
    let good = payload(&repository, &digest, COSIGN);
    let signed = key.sign(&home, &good);
    let mut broken = signed.clone();
    *broken.last_mut().unwrap() ^= 1;
    let changed = payload(&repository, &other, COSIGN);
    let list = [
        (good.clone(), broken.clone()),
        (changed.clone(), signed.clone()),
        (good.clone(), Vec::new()),
    ];
    attach(&home, &registry, &digest, &list);
    assert!(judge(&home, &demand, &registry.address, ":1").is_err());
    let mut list = list.to_vec();
    list.push((good, signed));
    attach(&home, &registry, &digest, &list);
    assert_eq!(
        judge(&home, &demand, &registry.address, ":1").unwrap(),
        Verdict::Signed
    );
}

#[test]
fn a_signed_tag_moved_to_another_image_is_noticed() {
    let (registry, home, image) = published();
    let key = Key::new(&home, "right", Kind::P256);
    let demand = policy(&home, &signed_by(&key, "matchRepository"));
    let payload = payload(
        &format!("{}/app", registry.address),
        &image.digest(),
        COSIGN,
    );
    let signature = key.sign(&home, &payload);
    attach(
        &home,
        &registry,
        &image.digest(),
        &[(payload.clone(), signature.clone())],
    );
    let evil = Image::new(vec![noise(666, 1000)]);
    evil.publish(&home.client(), &registry.name("app:1"));
    let error = judge(&home, &demand, &registry.address, ":1").unwrap_err();
    assert!(matches!(error, TrustError::Unsigned { .. }), "{error}");
    // Not even if the good image's signature is put beside it.
    attach(&home, &registry, &evil.digest(), &[(payload, signature)]);
    let error = judge(&home, &demand, &registry.address, ":1").unwrap_err();
    assert!(
        error.to_string().contains("the signature is for"),
        "{error}"
    );
}

#[test]
fn a_signed_index_vouches_for_what_it_names() {
    let (registry, home, image) = published();
    let key = Key::new(&home, "right", Kind::P256);
    let demand = policy(&home, &signed_by(&key, "matchRepository"));
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest);
    entry.platform = Some(Platform::host());
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
    let index = serde_json::to_vec(&index).unwrap();
    let to = registry.name("app:all");
    home.client()
        .open_for_push(&to)
        .unwrap()
        .push_manifest(&index, media_type::OCI_INDEX)
        .unwrap();
    assert!(judge(&home, &demand, &registry.address, ":all").is_err());
    let digest = Digest::of(&index);
    let payload = payload(&format!("{}/app", registry.address), &digest, COSIGN);
    let signature = key.sign(&home, &payload);
    attach(&home, &registry, &digest, &[(payload, signature)]);
    assert_eq!(
        judge(&home, &demand, &registry.address, ":all").unwrap(),
        Verdict::Signed
    );
    // By its own tag nothing leads through the index.
    assert!(judge(&home, &demand, &registry.address, ":1").is_err());
}

#[test]
fn a_registry_cannot_talk_its_way_out() {
    let (registry, home, image) = published();
    let key = Key::new(&home, "right", Kind::P256);
    let demand = policy(&home, &signed_by(&key, "matchRepository"));
    let payload = payload(
        &format!("{}/app", registry.address),
        &image.digest(),
        COSIGN,
    );
    let signature = key.sign(&home, &payload);
    attach(&home, &registry, &image.digest(), &[(payload, signature)]);
    for answer in ["HTTP/1.1 403 No", "HTTP/1.1 500 Broken", "HTTP/1.1 200 OK"] {
        let faults = Faults::start(&registry.address, move |seen| {
            match seen.target.contains(".sig") {
                true => Action::Answer(answer.to_owned(), b"[]".to_vec()),
                false => Action::Pass,
            }
        });
        assert!(
            judge(&home, &demand, &faults.address, ":1").is_err(),
            "{answer}"
        );
    }
    let flips = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true => Action::Flip(20),
        false => Action::Pass,
    });
    let error = judge(&home, &demand, &flips.address, ":1").unwrap_err();
    assert!(matches!(error, TrustError::Fetch { .. }), "{error}");
    // Whoever is rejected is not even asked.
    let reject = policy(&home, r#"{"type":"reject"}"#);
    assert!(matches!(
        reject.permits(&registry.name("app:1")),
        Err(TrustError::Rejected { .. })
    ));
    let accept = policy(&home, r#"{"type":"insecureAcceptAnything"}"#);
    assert_eq!(
        judge(&home, &accept, &registry.address, ":1").unwrap(),
        Verdict::Unchecked
    );
}

#[test]
fn skopeo_finds_the_same_scopes() {
    let (registry, home, image) = published();
    let address = &registry.address;
    let (accept, reject) = (
        r#"[{"type":"insecureAcceptAnything"}]"#,
        r#"[{"type":"reject"}]"#,
    );
    let pinned = format!("@{}", image.digest());
    for (scope, by_tag, by_digest) in [
        (String::new(), true, true),
        (address.clone(), true, true),
        (format!("{address}/app"), true, true),
        (format!("{address}/app:1"), true, false),
        (format!("{address}/app{pinned}"), false, true),
        (format!("{address}/ap"), false, false),
        ("127.0.0.1".to_owned(), false, false),
        ("*.0.0.1".to_owned(), true, true),
        ("*.0.1".to_owned(), true, true),
    ] {
        let text =
            format!(r#"{{"default":{reject},"transports":{{"docker":{{"{scope}":{accept}}}}}}}"#);
        let policy = Policy::read(&home.write("policy.json", text)).unwrap();
        for (tag, expected) in [(":1", by_tag), (pinned.as_str(), by_digest)] {
            assert_eq!(
                policy.permits(&name(address, &format!("app{tag}"))).is_ok(),
                expected,
                "{scope} {tag}"
            );
            assert_eq!(
                skopeo_takes(&home, &registry, tag),
                expected,
                "{scope} {tag}"
            );
        }
    }
}
