//! Images that are in the store already, under policies that came later: they are judged at each run.

use std::fs;

use image::reference::{Reference, Source};
use image::trust::{TrustError, Verdict};
use image::{JudgeError, Pulled};

use crate::fixture::{Home, Registry};
use crate::store::{published, pull, pull_under, store};
use crate::trust::{COSIGN, Key, Kind, attach, payload, policy, signed_by};

const REJECT: &str = r#"{"type":"reject"}"#;

fn rejected(error: &JudgeError) -> bool {
    matches!(error, JudgeError::Trust(TrustError::Rejected { .. }))
}

fn unsigned(error: &JudgeError) -> bool {
    matches!(error, JudgeError::Trust(TrustError::Unsigned { .. }))
}

/// Signs what was pulled, and puts the signature beside it.
fn sign(home: &Home, registry: &Registry, key: &Key, pulled: &Pulled, name: &Reference) {
    let payload = payload(&name.to_string(), &pulled.digest, COSIGN);
    let signature = key.sign(home, &payload);
    attach(home, registry, &pulled.digest, &[(payload, signature)]);
}

#[test]
fn a_policy_that_rejects_later_refuses_what_is_there() {
    let (registry, home) = published();
    let store = store(&home, "store");
    let from = registry.name("app:1");
    let image = pull(&home, &store, &from).unwrap().image;
    assert_eq!(image.origins, [from.to_string()]);
    let lax = image::trust::Policy::accept_anything();
    let verdict = store.judge(&image, Some(&from), &lax).unwrap();
    assert_eq!(verdict, Verdict::Unchecked);
    let strict = policy(&home, REJECT);
    assert!(rejected(
        &store.judge(&image, Some(&from), &strict).unwrap_err()
    ));
    assert!(rejected(&store.judge(&image, None, &strict).unwrap_err()));
    // Another name is no other place that it came from.
    let other: Reference = "good.test/app:1".parse().unwrap();
    store.tag(&other, &image.id, None).unwrap();
    let text = format!(
        r#"{{"default":[{REJECT}],"transports":{{"docker":{{"good.test":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#
    );
    let path = home.write("good.json", text);
    let good = image::trust::Policy::read(&path).unwrap();
    assert!(rejected(
        &store.judge(&image, Some(&other), &good).unwrap_err()
    ));
    // The same image that also came from a good place may run by its id, and not by the bad name.
    let archive = home.path().join("archive.tar");
    let mut file = fs::File::create(&archive).unwrap();
    let both = [(image.clone(), Vec::new())];
    store.save(&both, image::Format::Oci, &mut file).unwrap();
    let text = format!(
        r#"{{"default":[{REJECT}],"transports":{{"oci-archive":{{"{}":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#,
        home.path().canonicalize().unwrap().display()
    );
    let path = home.write("archive.json", text);
    let archives = image::trust::Policy::read(&path).unwrap();
    assert!(rejected(&store.judge(&image, None, &archives).unwrap_err()));
    let loaded = store
        .load(&Source::OciArchive {
            path: archive.clone(),
            tag: None,
        })
        .unwrap();
    assert_eq!(loaded[0].image.id, image.id);
    let image = loaded[0].image.clone();
    store.judge(&image, None, &archives).unwrap();
    // … also when the archive is gone.
    fs::remove_file(archive).unwrap();
    store.judge(&image, None, &archives).unwrap();
    assert!(rejected(
        &store.judge(&image, Some(&from), &archives).unwrap_err()
    ));
}

#[test]
fn signatures_that_were_checked_are_checked_again_without_the_registry() {
    let (registry, home) = published();
    let store = store(&home, "store");
    let from = registry.name("app:1");
    let (key, other) = (
        Key::new(&home, "key", Kind::P256),
        Key::new(&home, "other", Kind::Ed25519),
    );
    let lax = pull(&home, &store, &from).unwrap();
    sign(&home, &registry, &key, &lax, &from);
    // It is signed, but nobody has looked.
    let strict = policy(&home, &signed_by(&key, "matchExact"));
    let refusal = store.judge(&lax.image, Some(&from), &strict).unwrap_err();
    assert!(unsigned(&refusal), "{refusal}");
    let pulled = pull_under(&home, &store, &from, Some(&strict)).unwrap();
    assert_eq!(
        (pulled.verdict, pulled.image.id),
        (Verdict::Signed, lax.image.id)
    );
    drop(registry);
    for name in [Some(&from), None] {
        let verdict = store.judge(&pulled.image, name, &strict).unwrap();
        assert_eq!(verdict, Verdict::Signed);
    }
    let foreign = policy(&home, &signed_by(&other, "matchExact"));
    assert!(unsigned(
        &store
            .judge(&pulled.image, Some(&from), &foreign)
            .unwrap_err()
    ));
    // A signature that was changed is none, whether it can be read or not.
    let file = home
        .path()
        .join(format!("store/signatures/{}", pulled.image.id.hex()));
    let good = fs::read_to_string(&file).unwrap();
    let changed = good.replacen("\"signature\":\"M", "\"signature\":\"N", 1);
    assert_ne!(good, changed);
    for text in [changed.as_str(), "[", ""] {
        fs::write(&file, text).unwrap();
        let refusal = store
            .judge(&pulled.image, Some(&from), &strict)
            .unwrap_err();
        assert!(unsigned(&refusal), "{refusal}");
    }
    fs::write(&file, good).unwrap();
    store.judge(&pulled.image, Some(&from), &strict).unwrap();
    // It goes with the image.
    store.remove(&from.to_string(), false).unwrap();
    assert!(!file.exists());
}

#[test]
fn what_never_was_in_a_registry_has_no_signature() {
    let (registry, home) = published();
    let store = store(&home, "store");
    let key = Key::new(&home, "key", Kind::P256);
    let strict = policy(&home, &signed_by(&key, "matchRepository"));
    let tar = fs::read(home.path().join("layer0.tar")).unwrap();
    let name = registry.name("app:1");
    let config = |diff_id: &image::Digest| {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        config.to_string().into_bytes()
    };
    let image = store
        .import("tree", &mut &tar[..], Some(&name), config)
        .unwrap();
    assert_eq!(image.origins, ["tarball:"]);
    assert_eq!(store.named(&name).unwrap().as_ref(), Some(&image));
    for name in [Some(&name), None] {
        assert!(unsigned(&store.judge(&image, name, &strict).unwrap_err()));
    }
    // Of an image whose origin was lost in a crash, the policy's default decides.
    let record = home
        .path()
        .join(format!("store/images/{}.json", image.id.hex()));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"tarball:\"", "")).unwrap();
    let image = store.find(&image.id).unwrap().unwrap();
    assert_eq!(image.origins, Vec::<String>::new());
    assert!(unsigned(
        &store.judge(&image, Some(&name), &strict).unwrap_err()
    ));
    assert!(rejected(
        &store
            .judge(&image, None, &policy(&home, REJECT))
            .unwrap_err()
    ));
    let lax = image::trust::Policy::accept_anything();
    store.judge(&image, None, &lax).unwrap();
}
